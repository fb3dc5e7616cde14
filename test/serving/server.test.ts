import '../../src/lib/node20.ts'
import { afterEach, describe, expect, it } from 'vitest'
import { createApp } from '../../src/serving/app.ts'
import type { ServingEngine } from '../../src/serving/engine.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { type RunningServer, startServer } from '../../src/serving/server.ts'
import { backendOf, fixedEngine } from '../support/inference-api.ts'

const KEY = 'k'.repeat(32)
const servers: RunningServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

/** @param port 0 chooses a free one */
async function start(change: Partial<ServingEngine> = {}, port = 0): Promise<RunningServer> {
  let actual = 0
  const app = createApp({
    backendFor: () => backendOf(fixedEngine(change)),
    apiKeys: [KEY],
    isOwnHost: (host) => isLoopbackHost(host, actual),
    now: () => 0,
  })
  const server = await startServer(app, port)
  servers.push(server)
  actual = server.port
  return server
}

const ask = ({ port }: RunningServer, body: object, signal?: AbortSignal): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'flexmesh', prompt: 'Hello', ...body }),
    signal: signal ?? null,
  })

describe('the API on a socket', () => {
  it('answers on the loopback address', async () => {
    const answer = await ask(await start(), { max_tokens: 2 })
    expect(await answer.json()).toMatchObject({ choices: [{ text: 'The quick ' }] })
  })

  it.each([false, true])(
    'aborts the generation when the client closes its socket (stream: %s)',
    async (stream) => {
      const { promise: aborted, resolve: reportAbort } = Promise.withResolvers<void>()
      const { promise: begun, resolve: reportBegin } = Promise.withResolvers<void>()
      const server = await start({
        generate: async function* (_, __, signal) {
          yield { text: 'x' }
          reportBegin()
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
          reportAbort()
          signal.throwIfAborted()
        },
      })
      const client = new AbortController()
      const answer = ask(server, { stream }, client.signal).then((response) => response.text())
      await begun
      client.abort()
      await expect(answer).rejects.toThrow()
      await aborted
    },
  )

  it('is refused on a port that is in use', async () => {
    const { port } = await start()
    await expect(start({}, port)).rejects.toMatchObject({ code: 'port-in-use' })
  })
})
