/**
 * Frames over a libp2p stream: an unsigned varint length, then one deterministic CBOR item. Sizes
 * are checked before a frame is buffered; whatever fails aborts its stream. Knows no message.
 */
import type { Stream } from '@libp2p/interface'
import * as lengthPrefixed from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import { Uint8ArrayList } from 'uint8arraylist'
import { bytesFrameHead, bytesFrameStart, decodeCbor, encodeCbor, MAX_BYTES_FRAME_HEAD } from '../lib/cbor.ts'
import { ExchangeError, FlexMeshError } from '../lib/errors.ts'
import { Deadline } from './deadline.ts'
import { incoming } from './incoming.ts'
import type { ProtocolRow } from './protocol.ts'

/** Bytes of a noise message that are not its tag. */
const NOISE_BYTES = 65_519
const YAMUX_HEADER_BYTES = 12
/** Fills noise messages; small against a stream's window, so that one is on its way while another is sent. */
const PIECE_BYTES = 4 * NOISE_BYTES - YAMUX_HEADER_BYTES

type Bytes = Uint8Array | Uint8ArrayList

/** A frame `{bytes}` as it arrived: its bytes in consecutive parts, not yet copied together. */
export class BytesFrame {
  readonly parts: readonly Uint8Array[]
  readonly length: number

  constructor(parts: readonly Uint8Array[], length: number) {
    this.parts = parts
    this.length = length
  }
}

/** Answer one request on an inbound stream with the frames that `handler` yields. */
export async function answer(
  stream: Stream,
  protocol: ProtocolRow,
  handler: (request: unknown, signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<void> {
  const deadline = new Deadline(stream, protocol)
  const { signal } = deadline
  try {
    await pipe(
      incoming(stream),
      (source) => lengthPrefixed.decode(source, { maxDataLength: protocol.maxRequestBytes }),
      async function* (requests: AsyncIterable<Bytes>) {
        for await (const request of requests) {
          for await (const frame of guarded(handler(decode(request, protocol.maxRequestBytes), signal))) {
            deadline.frame()
            yield* encode(frame)
          }
          return
        }
      },
      (source) => send(stream, source, signal),
    )
    await stream.close({ signal })
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error(String(error)))
  } finally {
    deadline.clear()
  }
}

/** A refusal becomes a last frame that names its code; the reason of anything else stays here. */
async function* guarded(frames: AsyncIterable<unknown>): AsyncIterable<unknown> {
  try {
    yield* frames
  } catch (error) {
    yield { error: error instanceof FlexMeshError ? error.code : 'protocol' }
  }
}

/**
 * Send one request and yield the frames of the answer: a `BytesFrame` or a decoded value.
 * @throws ExchangeError with the code that the other side named, `timeout`, or `protocol`.
 */
export async function* ask(
  stream: Stream,
  protocol: ProtocolRow,
  request: unknown,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  const abort = (): void => stream.abort(new ExchangeError('aborted', `${protocol.id}: aborted`))
  signal.addEventListener('abort', abort, { once: true })
  const deadline = new Deadline(stream, protocol)
  let complete = false
  try {
    signal.throwIfAborted()
    await send(stream, [lengthPrefixed.encode.single(encodeCbor(request))], signal)
    let count = 0
    const options = { maxDataLength: protocol.maxResponseBytes }
    for await (const frame of lengthPrefixed.decode(incoming(stream), options)) {
      deadline.frame()
      if (++count > protocol.maxResponseFrames) {
        throw new ExchangeError('protocol', `${protocol.id}: more than ${protocol.maxResponseFrames} frames`)
      }
      const value = decode(frame, protocol.maxResponseBytes)
      const code = refusal(value)
      if (code !== undefined)
        throw new ExchangeError('refused', `${protocol.id}: the other side says ${code}`, { remote: code })
      yield value
    }
    signal.throwIfAborted()
    complete = true
  } catch (error) {
    if (error instanceof FlexMeshError) throw error
    throw new ExchangeError(
      signal.aborted || deadline.signal.aborted ? 'timeout' : 'protocol',
      `${protocol.id}: ${(error as Error).message}`,
      {},
      error,
    )
  } finally {
    deadline.clear()
    signal.removeEventListener('abort', abort)
    if (complete) await stream.close({ signal }).catch(() => stream.abort(new Error('close failed')))
    else stream.abort(new ExchangeError('aborted', `${protocol.id}: given up`))
  }
}

function refusal(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined
  return typeof value.error === 'string' ? value.error.slice(0, 40) : 'protocol'
}

/** A frame in pieces, without a copy of its bytes: whoever made them leaves them as they are. */
function* encode(frame: unknown): Generator<Bytes> {
  const bytes = onlyBytes(frame)
  if (bytes === undefined) {
    yield lengthPrefixed.encode.single(encodeCbor(frame))
    return
  }
  const whole = lengthPrefixed.encode.single(new Uint8ArrayList(bytesFrameHead(bytes.length), bytes))
  for (let at = 0; at < whole.byteLength; at += PIECE_BYTES) {
    yield whole.sublist(at, Math.min(at + PIECE_BYTES, whole.byteLength))
  }
}

function onlyBytes(frame: unknown): Uint8Array | undefined {
  if (typeof frame !== 'object' || frame === null || !('bytes' in frame)) return undefined
  return frame.bytes instanceof Uint8Array && Object.keys(frame).length === 1 ? frame.bytes : undefined
}

function decode(frame: Bytes, maxBytes: number): unknown {
  const list = frame instanceof Uint8Array ? new Uint8ArrayList(frame) : frame
  const first = list.subarray(0, Math.min(MAX_BYTES_FRAME_HEAD, list.byteLength))
  const start = bytesFrameStart(first, list.byteLength)
  if (start === undefined) return decodeCbor(list.subarray(), maxBytes)
  return new BytesFrame([...list.sublist(start)], list.byteLength - start)
}

/** Write a source to the stream, waiting whenever the other side is slow. */
async function send(
  stream: Stream,
  source: Iterable<Bytes> | AsyncIterable<Bytes>,
  signal: AbortSignal,
): Promise<void> {
  for await (const part of source) {
    signal.throwIfAborted()
    if (!stream.send(part)) await drained(stream, signal)
  }
}

/**
 * Wait until the stream takes more. libp2p's own `onDrain` waits once in a stream's life: later calls
 * get the promise that the first drain resolved (@libp2p/utils 7.4).
 * @throws ExchangeError `protocol` when the stream ends first; the signal's reason.
 */
export async function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  while (stream.writableNeedsDrain) {
    signal.throwIfAborted()
    if (stream.status !== 'open') throw new ExchangeError('protocol', 'the stream ended while it was written')
    const { promise, resolve } = Promise.withResolvers<void>()
    const listening = new AbortController()
    for (const type of ['drain', 'close'] as const) {
      stream.addEventListener(type, () => resolve(), { signal: listening.signal })
    }
    signal.addEventListener('abort', () => resolve(), { signal: listening.signal })
    await promise
    listening.abort()
  }
}
