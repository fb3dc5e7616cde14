/** A server that stops while it answers. */
import '../../src/lib/node20.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { type RunningServer, startServer } from '../../src/serving/server.ts'
import { backendOf, fixedEngine } from '../support/inference-api.ts'

const KEY = 'k'.repeat(32)
const LONG = 600_000

let server: RunningServer | undefined
afterEach(async () => {
  await server?.close()
})

/** A server whose answers have one word, wait for `release`, then a second word. */
async function slow() {
  const { promise, resolve: release } = Promise.withResolvers<void>()
  const engine = fixedEngine({
    generate: async function* () {
      yield { text: 'first ', shares: Float32Array.of(1, 0) }
      await promise
      yield { text: 'last', shares: Float32Array.of(1, 0) }
    },
  })
  let port = 0
  const app = createApp({
    backendFor: () => backendOf(engine),
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => isLoopbackHost(host, port),
    now: () => 0,
  })
  const started = await startServer(app, 0)
  server = started
  port = started.port
  const ask = () =>
    fetch(`http://127.0.0.1:${port}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'flexmesh', prompt: 'x', stream: true, max_tokens: 8 }),
    })
  return { started, ask, release }
}

describe('a server that stops', () => {
  it('lets an answer end, and takes no further requests', async () => {
    const { started, ask, release } = await slow()
    const answer = await ask()
    const closed = started.close(LONG)
    await expect(ask()).rejects.toThrow()
    release()
    expect(await answer.text()).toMatch(/first [\s\S]*last[\s\S]*data: \[DONE\]/)
    await closed
  })

  it('cuts an answer that does not end in time', async () => {
    const { started, ask, release } = await slow()
    const answer = await ask()
    await started.close(1)
    await expect(answer.text()).rejects.toThrow()
    release()
  })

  it('cuts answers at once if it is not told to wait', async () => {
    const { started, ask, release } = await slow()
    const answer = await ask()
    await started.close()
    await expect(answer.text()).rejects.toThrow()
    release()
  })

  it('does not wait for clients that only hold a connection', async () => {
    const { started, ask, release } = await slow()
    release()
    await (await ask()).text()
    await started.close(LONG)
  })
})
