/**
 * Frames over a libp2p stream: an unsigned varint length, then one deterministic CBOR item. Sizes
 * are checked before a frame is buffered; whatever fails aborts its stream. Knows no message.
 */
import type { Stream } from '@libp2p/interface'
import * as lengthPrefixed from 'it-length-prefixed'
import { pipe } from 'it-pipe'
import { decodeCbor, encodeCbor } from '../lib/cbor.ts'
import { ExchangeError, FlexMeshError } from '../lib/errors.ts'
import type { ProtocolRow } from './protocols.ts'

type Bytes = Uint8Array | { subarray(): Uint8Array }

/** Answer one request on an inbound stream with the frames that `handler` yields. */
export async function answer(
  stream: Stream,
  protocol: ProtocolRow,
  handler: (request: unknown, signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<void> {
  const signal = AbortSignal.timeout(protocol.timeoutMs)
  const abort = (): void => stream.abort(new ExchangeError('timeout', `${protocol.id}: answer took too long`))
  signal.addEventListener('abort', abort, { once: true })
  try {
    await pipe(
      stream,
      (source) => lengthPrefixed.decode(source, { maxDataLength: protocol.maxRequestBytes }),
      async function* (requests: AsyncIterable<Bytes>) {
        for await (const request of requests) {
          for await (const frame of guarded(handler(decode(request, protocol.maxRequestBytes), signal))) {
            yield encodeCbor(frame)
          }
          return
        }
      },
      (frames) => lengthPrefixed.encode(frames),
      (source) => send(stream, source, signal),
    )
    await stream.close({ signal })
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error(String(error)))
  } finally {
    signal.removeEventListener('abort', abort)
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
 * Send one request and yield the frames of the answer.
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
  let complete = false
  try {
    await send(stream, lengthPrefixed.encode([encodeCbor(request)]), signal)
    let count = 0
    for await (const frame of lengthPrefixed.decode(stream, { maxDataLength: protocol.maxResponseBytes })) {
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
      signal.aborted ? 'timeout' : 'protocol',
      `${protocol.id}: ${(error as Error).message}`,
      {},
      error,
    )
  } finally {
    signal.removeEventListener('abort', abort)
    if (complete) await stream.close({ signal }).catch(() => stream.abort(new Error('close failed')))
    else stream.abort(new ExchangeError('aborted', `${protocol.id}: given up`))
  }
}

function refusal(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined
  return typeof value.error === 'string' ? value.error.slice(0, 40) : 'protocol'
}

function decode(frame: Bytes, maxBytes: number): unknown {
  return decodeCbor(frame instanceof Uint8Array ? frame : frame.subarray(), maxBytes)
}

/** Write a source to the stream, waiting whenever the other side is slow. */
async function send(
  stream: Stream,
  source: Iterable<Bytes> | AsyncIterable<Bytes>,
  signal: AbortSignal,
): Promise<void> {
  for await (const part of source) {
    signal.throwIfAborted()
    if (!stream.send(part instanceof Uint8Array ? part : part.subarray())) await stream.onDrain({ signal })
  }
}
