/** A process of its own for one end of a transfer. Usage: forked with KIND ROLE DIR FILE. */
import { ENDS, type Kind } from './ends.ts'
import { startMeter } from './meter.ts'

const [kind, role, dir = '', file = ''] = process.argv.slice(2)
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
