/** Runs one end of a transfer in a process of its own. Forked with the arguments KIND ROLE DIR FILE. */
import type { Kind } from './ends.ts'
import { startMeter } from './meter.ts'

const [kind, role, dir = '', file = ''] = process.argv.slice(2)
// Only our own kinds set V8's flag, before anything else is loaded; peers run with V8's defaults.
if (kind === 'exchange' || kind === 'libp2p') await import('../../../src/lib/heap-growth.ts')
const { ENDS } = await import('./ends.ts')
const end = await ENDS[kind as Kind]({ role: role as 'sender' | 'receiver', dir, file })
let stopMeter = startMeter()
process.on('message', (message: { readonly receive: readonly unknown[] } | 'start' | 'stop') => {
  if (message === 'start') {
    stopMeter = startMeter()
    process.send?.({})
  } else if (message === 'stop') process.send?.(stopMeter())
  else void receive(message.receive)
})
process.on('disconnect', () => process.exit())
process.send?.({ offer: end.offer })

async function receive(offers: readonly unknown[]): Promise<void> {
  await end.prepare?.(offers)
  const stop = startMeter()
  const started = performance.now()
  await end.receive?.(offers)
  const ms = performance.now() - started
  process.send?.({ ms, ...stop() })
  await end.forget?.()
}
