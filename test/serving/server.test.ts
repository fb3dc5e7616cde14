import '../../src/lib/node20.ts'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { sha256, toHex, utf8 } from '../../src/lib/bytes.ts'
import { limit } from '../../src/lib/limits.ts'
import { createApp } from '../../src/serving/app.ts'
import { fixedCallers } from '../../src/serving/callers.ts'
import type { ServingEngine } from '../../src/serving/engine.ts'
import { EVENT_STREAM_LIMITS, type EventStreamLimits } from '../../src/serving/event-stream.ts'
import { isLoopbackHost } from '../../src/serving/host.ts'
import { type RunningServer, type Sent, startServer } from '../../src/serving/server.ts'
import { SILENT } from '../../src/telemetry/log.ts'
import { backendOf, fixedEngine } from '../support/inference-api.ts'

const KEY = 'k'.repeat(32)
const servers: RunningServer[] = []
const sockets: Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  for (const server of servers.splice(0)) await server.close()
})

/** @param port 0 chooses a free one */
async function start(
  change: Partial<ServingEngine> = {},
  port = 0,
  streamLimits: EventStreamLimits = EVENT_STREAM_LIMITS,
  onSent: (sent: Sent) => void = () => undefined,
): Promise<RunningServer> {
  let actual = 0
  const app = createApp({
    backendFor: () => backendOf(fixedEngine(change)),
    callers: fixedCallers([KEY]),
    isOwnHost: (host) => isLoopbackHost(host, actual),
    now: () => 0,
    streamLimits,
  })
  const server = await startServer(app, port, SILENT, onSent)
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

/** A connected socket that sends `text`, and whose errors are expected. */
async function open({ port }: RunningServer, text = ''): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1' })
  sockets.push(socket)
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(text)
  return socket
}

/** All that a server sends on a socket until it closes it. */
async function received(socket: Socket): Promise<string> {
  let text = ''
  socket.setEncoding('utf8').on('data', (data: string) => {
    text += data
  })
  await once(socket, 'close')
  return text
}

/** The head of a request for a completion. */
const head = ({ port }: RunningServer, length: number, ...headers: string[]): string =>
  [
    'POST /v1/completions HTTP/1.1',
    `Host: 127.0.0.1:${port}`,
    `Authorization: Bearer ${KEY}`,
    'Content-Type: application/json',
    `Content-Length: ${length}`,
    ...headers,
    '',
    '',
  ].join('\r\n')

/** A whole request for a completion. */
function request(server: RunningServer, body: object, ...headers: string[]): string {
  const json = JSON.stringify({ model: 'flexmesh', prompt: 'Hello', ...body })
  return `${head(server, json.length, ...headers)}${json}`
}

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

  it.each(['LOCALHOST.', '[0:0:0:0:0:0:0:1]', '127.1'])('answers under its name %s', async (name) => {
    const server = await start()
    const text = request(server, { max_tokens: 1 }, 'Connection: close')
    const answer = received(await open(server, text.replace('Host: 127.0.0.1', `Host: ${name}`)))
    expect(await answer).toMatch(/^HTTP\/1\.1 200 /)
  })

  it('refuses a path that cannot be read with an error in the usual form', async () => {
    const server = await start()
    const text = request(server, {}, 'Connection: close').replace('/v1/', '/\\')
    expect(await received(await open(server, text))).toMatch(
      /^HTTP\/1\.1 400 [\s\S]*x-request-id: req-[\s\S]*"code":"bad_request"/i,
    )
  })

  it('says that it closes the connection after a body that is too large, and closes it', async () => {
    const server = await start()
    const size = limit('bodyBytes') + 100_000
    const socket = await open(server, head(server, size))
    const answer = received(socket)
    socket.write('x'.repeat(size))
    expect(await answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*"code":"body_too_large"/i)
  })

  it('frees the place of a waiting request when its client closes its socket', async () => {
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    let running = 0
    const server = await start({
      generate: async function* () {
        if (++running === limit('servedStreams')) begun.resolve()
        await gate
        yield { text: 'x' }
      },
    })
    const answers = Array.from({ length: limit('servedStreams') }, () => ask(server, {}))
    await begun.promise
    const client = new AbortController()
    const left = Array.from({ length: limit('queuedRequests') }, () => ask(server, {}, client.signal))
    const settled = Promise.allSettled(left)
    // The queue is full when a request is refused.
    while ((await statusUnlessWaiting(server)) !== 429);
    client.abort()
    await settled
    // It has room again when a request waits.
    while ((await statusUnlessWaiting(server)) === 429);
    openGate()
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200)
  })
})

/** The status of the answer to a stream, whose headers come at once or after a short wait in the queue. */
async function statusUnlessWaiting(server: RunningServer): Promise<number> {
  const client = new AbortController()
  const { status } = await ask(server, { stream: true }, client.signal)
  client.abort()
  return status
}

describe('clients that send slowly or nothing', () => {
  /** Opens twice as many sockets as the server keeps. Resolves when the others are closed. */
  async function openMany(server: RunningServer, text: string): Promise<void> {
    const { promise: haveClosed, resolve } = Promise.withResolvers<void>()
    let closed = 0
    const openOne = async (): Promise<void> => {
      const socket = await open(server, text)
      socket.resume().once('close', () => {
        if (++closed === limit('httpConnections')) resolve()
      })
    }
    await Promise.all(Array.from({ length: 2 * limit('httpConnections') }, openOne))
    await haveClosed
  }

  it.each<[string, (server: RunningServer) => string]>([
    ['nothing', () => ''],
    ['a part of the headers', () => 'POST /v1/completions HTTP/1.1\r\nX-Slow: '],
    ['a part of the body, without a key', (server) => head(server, 1000).replace(KEY, 'wrong')],
    ['a part of the body, with a key', (server) => head(server, 1000)],
  ])('do not keep others away: %s', async (_, text) => {
    const server = await start()
    await openMany(server, text(server))
    const answer = await ask(server, { max_tokens: 2 })
    expect(answer.status).toBe(200)
    expect(await answer.json()).toMatchObject({ choices: [{ text: 'The quick ' }] })
  })

  it('do not cut off an answer', async () => {
    const { promise: gate, resolve: openGate } = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const server = await start({
      generate: async function* () {
        begun.resolve()
        await gate
        yield { text: 'whole' }
      },
    })
    const answer = ask(server, {})
    await begun.promise
    await openMany(server, head(server, 1000))
    openGate()
    expect(await (await answer).json()).toMatchObject({ choices: [{ text: 'whole' }] })
  })
})

describe('clients that do not read their answers', () => {
  /** Sockets that ask for a stream and read nothing of it, one for each place. */
  async function fill(server: RunningServer): Promise<Socket[]> {
    const silent = await Promise.all(
      Array.from({ length: limit('servedStreams') }, () => open(server, request(server, { stream: true }))),
    )
    for (const socket of silent) socket.pause()
    return silent
  }

  it('lose their places after a while if their answers are too large to be kept', async () => {
    let given = 0
    const server = await start(
      {
        generate: async function* ({ stream }) {
          // More than the buffers of the system take.
          for (let i = 0; stream && i < 1000; i++) yield { text: 'x'.repeat(65_536) }
          given++
          yield { text: 'end' }
        },
      },
      0,
      { ...EVENT_STREAM_LIMITS, stall: 50 },
    )
    const silent = await fill(server)
    expect(await (await ask(server, {})).json()).toMatchObject({ choices: [{ text: 'end' }] })
    expect(given).toBe(1)
    await Promise.all(silent.map((socket) => socket.closed || once(socket.resume(), 'close')))
  })
})

describe('what a server has sent', () => {
  /** Collects the counts of a server until this many responses have ended. */
  function counting(responses: number): { counts: Sent[]; all: Promise<void>; onSent(sent: Sent): void } {
    const counts: Sent[] = []
    const all = Promise.withResolvers<void>()
    return {
      counts,
      all: all.promise,
      onSent: (sent) => {
        if (counts.push(sent) === responses) all.resolve()
      },
    }
  }
  const NAME = `API key ${toHex(sha256(utf8(KEY))).slice(0, 12)}`

  it('is counted by key, with tokens and every byte on the socket, for whole answers and streams', async () => {
    const { counts, all, onSent } = counting(2)
    const server = await start({}, 0, EVENT_STREAM_LIMITS, onSent)
    await (await ask(server, { max_tokens: 4 })).text()
    await (await ask(server, { max_tokens: 6, stream: true })).text()
    await all
    expect(counts.map(({ to, tokens }) => [to, tokens])).toEqual([
      [NAME, 4],
      [NAME, 6],
    ])
  })

  it('is every byte that a client of one connection receives, also of refusals', async () => {
    const { counts, all, onSent } = counting(2)
    const server = await start({}, 0, EVENT_STREAM_LIMITS, onSent)
    const body = JSON.stringify({ model: 'flexmesh', prompt: 'Hello', max_tokens: 3 })
    const socket = await open(server, `${head(server, body.length)}${body}`)
    let bytes = 0
    socket.on('data', (data: Buffer) => {
      bytes += data.length
    })
    const refused = `GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: close\r\n\r\n`
    await once(socket, 'data')
    socket.write(refused)
    await once(socket, 'close')
    await all
    expect(counts.map(({ to, tokens }) => [to, tokens])).toEqual([
      [NAME, 3],
      ['no key', 0],
    ])
    expect(counts.reduce((sum, count) => sum + count.bytes, 0)).toBe(bytes)
  })
})
