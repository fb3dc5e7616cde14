import { multiaddr } from '@multiformats/multiaddr'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { equalBytes } from '../../src/lib/bytes.ts'
import { bytesFrameHead, bytesFrameStart, encodeCbor, MAX_BYTES_FRAME_HEAD } from '../../src/lib/cbor.ts'
import { FlexMeshError, PolicyError } from '../../src/lib/errors.ts'
import { BytesFrame } from '../../src/network/frame-codec.ts'
import { answer, ask, decodeBytesFrame } from '../../src/network/frames.ts'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import { Log, type LogEntry, SILENT } from '../../src/telemetry/log.ts'
import { codeOf } from '../support/packages.ts'
import { startTransport, stopTransports } from '../support/transport.ts'

const start = (frame: Uint8Array) => bytesFrameStart(frame.subarray(0, MAX_BYTES_FRAME_HEAD), frame.length)

describe('a frame of bytes', () => {
  it('has the head that the encoder writes, at every length at which the head changes', () => {
    for (const length of [0, 1, 23, 24, 25, 255, 256, 257, 65_535, 65_536, 2 ** 20]) {
      const bytes = new Uint8Array(length).fill(7)
      const frame = encodeCbor({ bytes })
      const head = bytesFrameHead(length)
      expect(equalBytes(frame.subarray(0, head.length), head)).toBe(true)
      expect(frame.length).toBe(head.length + length)
      expect(start(frame)).toBe(head.length)
    }
  })

  it('is recognised only if the strict decoder reads the same bytes from it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(12), fc.nat(255), (bytes, at, value) => {
        const frame = encodeCbor({ bytes })
        if (at < frame.length) frame[at] = value
        const found = start(frame)
        if (found === undefined) return
        expect(equalBytes(encodeCbor({ bytes: frame.subarray(found) }), frame)).toBe(true)
      }),
      { seed: 3, numRuns: 2000 },
    )
  })

  it('is not recognised when it is cut, too long or encoded in another way', () => {
    const frame = encodeCbor({ bytes: new Uint8Array(30) })
    const longLength = Uint8Array.of(...frame.subarray(0, 7), 0x59, 0, 30, ...new Uint8Array(30))
    for (const other of [frame.subarray(0, -1), Uint8Array.of(...frame, 0), longLength, new Uint8Array(0)]) {
      expect(start(other)).toBe(undefined)
    }
    expect(start(encodeCbor({ bytes: 'text' }))).toBe(undefined)
    expect(start(encodeCbor({ error: 'quota' }))).toBe(undefined)
  })

  it('is decoded into one array, and refused above the limit', () => {
    const parts = [Uint8Array.of(1, 2), Uint8Array.of(3)]
    expect(decodeBytesFrame(new BytesFrame(parts, 3), 3)).toEqual(Uint8Array.of(1, 2, 3))
    expect(codeOf(() => decodeBytesFrame(new BytesFrame(parts, 3), 2))).toBe('bad-field')
  })
})

const ROW: ProtocolRow = {
  id: '/test/frames/1.0.0',
  maxRequestBytes: 1024,
  maxResponseBytes: 1024,
  maxResponseFrames: 4,
  timeoutMs: 60_000,
  timeoutPer: 'answer',
  maxInboundStreams: 4,
  quota: { burst: 1, everyMs: 1 },
  guests: 'none',
}
const never = new AbortController().signal
type Handler = (request: unknown, signal: AbortSignal) => AsyncIterable<unknown>

/** Yields one frame and then waits until the answer is given up. */
async function* stalled(_: unknown, signal: AbortSignal): AsyncGenerator<unknown> {
  yield { at: 1 }
  await new Promise((resolve) => signal.addEventListener('abort', resolve))
}

/** Ask a node that answers with `handler` over loopback. */
async function* asking(
  handler: Handler,
  options: { row?: Partial<ProtocolRow>; signal?: AbortSignal; log?: Log; request?: unknown } = {},
): AsyncGenerator<unknown, void, void> {
  const row = { ...ROW, ...options.row }
  const [server, client] = [await startTransport(1), await startTransport(2)]
  // The answering side has no time limit, so that the asking side is the one that fails.
  const { log = SILENT } = options
  await server.handle(row.id, (stream) => answer(stream, { ...row, timeoutMs: 60_000 }, handler, { log }))
  const stream = await client.dialProtocol(multiaddr(String(server.getMultiaddrs()[0])), row.id)
  yield* ask(stream, row, options.request ?? { kind: 'test' }, options.signal ?? never)
}

/** The frames that arrive before the error, and the error. */
async function failing(frames: AsyncIterable<unknown>): Promise<{ frames: unknown[]; error: FlexMeshError }> {
  const got: unknown[] = []
  try {
    for await (const frame of frames) got.push(frame)
  } catch (error) {
    expect(error).toBeInstanceOf(FlexMeshError)
    return { frames: got, error: error as FlexMeshError }
  }
  throw new Error(`expected an error after ${got.length} frames`)
}

describe('a request', () => {
  afterEach(stopTransports)

  it('receives the frames of its answer in order', async () => {
    const frames: unknown[] = []
    const echo: Handler = async function* (request) {
      yield request
      yield { at: 2 }
    }
    for await (const frame of asking(echo, { request: { at: 1 } })) frames.push(frame)
    expect(frames).toEqual([{ at: 1 }, { at: 2 }])
  })

  it('that waits too long for the whole answer fails with timeout and says so', async () => {
    const { error } = await failing(asking(stalled, { row: { timeoutMs: 50 } }))
    expect([error.code, error.message]).toEqual([
      'timeout',
      '/test/frames/1.0.0: the answer took longer than 50 ms',
    ])
    expect(error.fields).toEqual({ protocol: ROW.id, timeoutMs: 50 })
  })

  it('that waits too long for one frame fails with timeout and says so', async () => {
    const { error } = await failing(asking(stalled, { row: { timeoutMs: 50, timeoutPer: 'frame' } }))
    expect([error.code, error.message]).toEqual([
      'timeout',
      '/test/frames/1.0.0: a frame of the answer took longer than 50 ms',
    ])
  })

  it('that its caller aborts is aborted and not timed out', async () => {
    const caller = new AbortController()
    const frames = asking(stalled, { signal: caller.signal })
    expect(await frames.next()).toEqual({ done: false, value: { at: 1 } })
    caller.abort()
    const { error } = await failing(frames)
    expect([error.code, error.message]).toEqual(['aborted', '/test/frames/1.0.0: the request was aborted'])
  })

  it('that was aborted before it was sent is aborted and not timed out', async () => {
    const { error } = await failing(asking(stalled, { signal: AbortSignal.abort() }))
    expect(error.code).toBe('aborted')
  })

  it('that its caller aborts after the last frame is aborted and not timed out', async () => {
    const caller = new AbortController()
    const frames = asking(
      async function* () {
        yield { at: 1 }
      },
      { signal: caller.signal },
    )
    await frames.next()
    caller.abort()
    expect((await failing(frames)).error.code).toBe('aborted')
  })

  it('whose asker goes away ends the handler that works on it', async () => {
    const ended = Promise.withResolvers<unknown>()
    const working: Handler = async function* (_, signal) {
      yield { at: 1 }
      signal.addEventListener('abort', () => ended.resolve(signal.reason))
      await ended.promise
    }
    const caller = new AbortController()
    const frames = asking(working, { signal: caller.signal })
    await frames.next()
    caller.abort()
    await failing(frames)
    expect(await ended.promise).toMatchObject({ code: 'aborted' })
  })

  it('whose caller sets a time limit times out, and names that limit', async () => {
    const { error } = await failing(asking(stalled, { signal: AbortSignal.timeout(50) }))
    expect([error.code, error.message]).toEqual([
      'timeout',
      '/test/frames/1.0.0: the time limit of the caller passed',
    ])
  })

  it('that is refused learns the code and not the reason', async () => {
    const entries: LogEntry[] = []
    const refuse: Handler = async function* () {
      yield { at: 1 }
      throw new PolicyError('norm-bound', 'a reason that stays here')
    }
    const log = new Log((entry) => entries.push(entry), 'debug')
    const { frames, error } = await failing(asking(refuse, { log }))
    expect(frames).toEqual([{ at: 1 }])
    expect([error.code, error.fields['remote']]).toEqual(['refused', 'norm-bound'])
    expect(error.message).not.toContain('reason')
    expect(entries.map(({ level, code }) => [level, code])).toEqual([['debug', 'norm-bound']])
  })

  it('that hits a bug of the other side learns nothing about it; the other side logs it', async () => {
    const entries: LogEntry[] = []
    const broken: Handler = async function* () {
      throw new TypeError('undefined is not a function')
    }
    const { error } = await failing(asking(broken, { log: new Log((entry) => entries.push(entry)) }))
    expect([error.code, error.fields['remote']]).toEqual(['refused', 'protocol'])
    expect(entries.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'error /test/frames/1.0.0: a request failed: undefined is not a function',
    ])
  })

  it('reads a refusal that is not a code as protocol', async () => {
    const forged: Handler = async function* () {
      yield { error: '\u001b[2Jforged' }
    }
    const { error } = await failing(asking(forged))
    expect(error.fields['remote']).toBe('protocol')
    expect(error.message).toBe('/test/frames/1.0.0: the other side says protocol')
  })

  it('stops at an answer of too many frames', async () => {
    const many: Handler = async function* () {
      for (let at = 0; at < 10; at++) yield { at }
    }
    const { frames, error } = await failing(asking(many))
    expect(frames.length).toBe(4)
    expect([error.code, error.message]).toEqual(['protocol', '/test/frames/1.0.0: more than 4 frames'])
  })

  it('stops at a frame that is too large', async () => {
    const large: Handler = async function* () {
      yield { bytes: new Uint8Array(2000) }
    }
    expect((await failing(asking(large))).error.code).toBe('too-large')
  })
})
