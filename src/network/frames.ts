/**
 * One request and its answer over a libp2p stream, as frames (frame-codec.ts). Every failure aborts its stream.
 * Implements protocols/package-exchange, Frames. Says which object each frame is for the egress ledger. Does not know what
 * messages mean.
 */
import type { Stream } from '@libp2p/interface'
import { pipe } from 'it-pipe'
import { concatBytes } from '../lib/bytes.ts'
import { ExchangeError, FlexMeshError, FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { Deadline } from './deadline.ts'
import type { SentObject, StreamAccount } from './egress.ts'
import {
  type Bytes,
  BytesFrame,
  decodeFrame,
  encodeFrame,
  type FrameLimits,
  splitFrames,
} from './frame-codec.ts'
import { frameMarker, REFUSAL, refusal } from './frame-objects.ts'
import { incoming } from './incoming.ts'
import type { ProtocolRow } from './protocol.ts'

/** Largest frame of an answer that is not `{bytes}`. */
const MAX_OTHER_BYTES = 2 * limit('envelopeBytes') + 64
/** Largest piece of a request: one yamux frame of at most `requestDataBytes`. */
const REQUEST_PIECE_BYTES = 2 ** 16

export interface AnswerOptions {
  /** Why the peer may not send a request now. It is asked before the request is decoded. */
  readonly refuse?: () => ExchangeError | undefined
  /** The request breaks the specification. */
  readonly onFault?: (error: FormatError) => void
  readonly log?: Log
  /** Counts what is sent on the stream. Default: it is not counted. */
  readonly account?: StreamAccount | undefined
}

export interface AskOptions {
  /** Called with the number of bytes whenever some of the answer is read from the stream. */
  readonly onBytes?: ((count: number) => void) | undefined
  /** Counts what is sent on the stream. Default: it is not counted. */
  readonly account?: StreamAccount | undefined
}

const REQUEST: SentObject = { kind: 'request' }

/** Answer one request on an inbound stream with the frames that `handler` yields. Never rejects. */
export async function answer(
  stream: Stream,
  protocol: ProtocolRow,
  handler: (request: unknown, signal: AbortSignal) => AsyncIterable<unknown>,
  { refuse, onFault, log = SILENT, account }: AnswerOptions = {},
): Promise<void> {
  const deadline = new Deadline(stream, protocol)
  const { signal } = deadline
  // A handler that waits must not wait for a peer that is gone.
  const giveUp = (): void =>
    deadline.giveUp(new ExchangeError('aborted', `${protocol.id}: the stream ended before the answer`))
  stream.addEventListener('close', giveUp, { once: true })
  const { maxRequestBytes } = protocol
  let sent = 0
  const limits: FrameLimits = { bytes: maxRequestBytes, other: maxRequestBytes }
  const respond = async function* (requests: AsyncIterable<Bytes>): AsyncGenerator<Bytes> {
    for await (const request of splitFrames(requests, limits)) {
      // After the request has arrived, because libp2p loses what arrives while the asking side still negotiates.
      const refused = refuse?.()
      if (refused !== undefined) {
        log.debug(`${protocol.id}: a request was refused`, refused)
        const pieces = [...encodeFrame({ error: refused.code })]
        account?.begin(REFUSAL, { pieces, protocol: protocol.id })
        yield* pieces
        return
      }
      const value = decodeFrame(request, limits)
      const frames = refusing(handler(value, signal), protocol, onFault, log)
      const begin = account === undefined ? undefined : frameMarker(account, protocol, value)
      for await (const frame of frames) {
        deadline.frame()
        sent++
        // Pieces share the memory of the frame.
        const pieces = [...encodeFrame(frame)]
        const kept = begin?.(frame, pieces)
        yield* pieces.slice(0, -1)
        await kept
        yield* pieces.slice(-1)
      }
      return
    }
  }
  try {
    await pipe(incoming(stream, maxRequestBytes), respond, (source) => send(stream, source, signal))
    stream.removeEventListener('close', giveUp)
    // Before the other side learns that the answer is complete.
    await account?.end()
    await stream.close({ signal })
    log.trace(`${protocol.id}: answered with ${sent} frames`)
  } catch (error) {
    if (error instanceof FormatError) onFault?.(error)
    log.debug(`${protocol.id}: an answer was not sent to its end`, error)
    stream.abort(error instanceof Error ? error : new Error(String(error)))
  } finally {
    deadline.clear()
  }
}

/**
 * Ends the frames with `{error: code}` when the handler throws. The other side learns the code of a FlexMeshError
 * and nothing about any other error.
 */
async function* refusing(
  frames: AsyncIterable<unknown>,
  { id }: ProtocolRow,
  onFault: AnswerOptions['onFault'],
  log: Log,
): AsyncIterable<unknown> {
  try {
    yield* frames
  } catch (error) {
    const isRefusal = error instanceof FlexMeshError
    if (error instanceof FormatError) onFault?.(error)
    if (isRefusal) log.debug(`${id}: a request was refused`, error)
    else log.error(`${id}: a request failed`, error)
    yield { error: isRefusal ? error.code : 'protocol' }
  }
}

/**
 * Send one request and yield the frames of the answer: a `BytesFrame` or a decoded value.
 * @throws ExchangeError `refused` with the code of the other side in `fields.remote`; `aborted` when `signal`
 * aborted; `timeout` when the time limit of the protocol or of `signal` passed; `protocol` for everything else.
 * FormatError `too-large` or `not-cbor` for a frame that is not one.
 */
export async function* ask(
  stream: Stream,
  protocol: ProtocolRow,
  request: unknown,
  signal: AbortSignal,
  { onBytes = () => undefined, account }: AskOptions = {},
): AsyncGenerator<unknown, void, void> {
  const abort = (): void => stream.abort(abortError(protocol, signal))
  signal.addEventListener('abort', abort, { once: true })
  const deadline = new Deadline(stream, protocol)
  const { maxResponseBytes } = protocol
  // The largest answers that are not `{bytes}` hold two envelopes: the proof of a fork.
  const limits: FrameLimits = { bytes: maxResponseBytes, other: Math.min(maxResponseBytes, MAX_OTHER_BYTES) }
  // A whole window may arrive while the reader is slower than the network.
  stream.maxReadBufferLength = 2 * limit('streamWindowBytes')
  let complete = false
  try {
    signal.throwIfAborted()
    const pieces = [...encodeFrame(request, REQUEST_PIECE_BYTES)]
    account?.begin(REQUEST, { pieces, protocol: protocol.id })
    await send(stream, pieces, signal)
    let count = 0
    const unreadBytes = Math.min(maxResponseBytes, limit('chunkBytes'))
    for await (const frame of splitFrames(counted(incoming(stream, unreadBytes), onBytes), limits)) {
      deadline.frame()
      if (++count > protocol.maxResponseFrames) {
        throw new ExchangeError('protocol', `${protocol.id}: more than ${protocol.maxResponseFrames} frames`)
      }
      const value = decodeFrame(frame, limits)
      const code = refusal(value)
      if (code !== undefined)
        throw new ExchangeError('refused', `${protocol.id}: the other side says ${code}`, { remote: code })
      yield value
    }
    signal.throwIfAborted()
    complete = true
  } catch (error) {
    if (signal.aborted) throw abortError(protocol, signal)
    if (deadline.signal.aborted) throw deadline.signal.reason
    if (error instanceof FlexMeshError) throw error
    throw new ExchangeError('protocol', `${protocol.id}: ${(error as Error).message}`, {}, error)
  } finally {
    deadline.clear()
    signal.removeEventListener('abort', abort)
    // The answer is complete, so a failed close loses nothing; aborting frees the stream.
    if (complete) await stream.close({ signal }).catch(() => stream.abort(new Error('close failed')))
    else stream.abort(new ExchangeError('aborted', `${protocol.id}: the request was given up`))
    await account?.end()
  }
}

/** Report the length of each piece of `source`. */
async function* counted(
  source: AsyncIterable<Bytes>,
  onBytes: (count: number) => void,
): AsyncGenerator<Bytes, void, void> {
  for await (const piece of source) {
    onBytes(piece.byteLength)
    yield piece
  }
}

/** The error of a request whose caller gave it up, or whose caller's own time limit passed. */
function abortError({ id }: ProtocolRow, { reason }: AbortSignal): ExchangeError {
  const isTimeout = reason instanceof Error && reason.name === 'TimeoutError'
  return isTimeout
    ? new ExchangeError('timeout', `${id}: the time limit of the caller passed`, { protocol: id }, reason)
    : new ExchangeError('aborted', `${id}: the request was aborted`, { protocol: id }, reason)
}

/** The bytes of a frame `{bytes}`: an envelope, chunk hashes or a chunk. @throws FormatError `bad-field`. */
export function decodeBytesFrame(value: unknown, maxBytes: number): Uint8Array {
  return concatBytes(...decodeBytesParts(value, maxBytes))
}

/**
 * The bytes of a frame `{bytes}` in consecutive parts, as received, so that a chunk is copied only to its
 * destination. @throws FormatError `bad-field`.
 */
export function decodeBytesParts(value: unknown, maxBytes: number): readonly Uint8Array[] {
  if (value instanceof BytesFrame) {
    if (value.length > maxBytes) {
      throw new FormatError(
        'bad-field',
        `frame.bytes: expected at most ${maxBytes} bytes, got ${value.length}`,
      )
    }
    return value.parts
  }
  const fields = new Fields(value, 'frame')
  const bytes = fields.bytes('bytes', { max: maxBytes })
  fields.end()
  return [bytes]
}

/** @throws FormatError `truncated` when an answer ended before its first frame. */
export function requireFrame<T>(value: T | undefined, title: string): T {
  if (value === undefined) throw new FormatError('truncated', `${title}: the answer is empty`)
  return value
}

/** The first frame of an answer. Reads the answer to its end, so that both sides close the stream in order. */
export async function firstFrame(frames: AsyncGenerator<unknown, void, void>): Promise<unknown> {
  let first: unknown
  for await (const frame of frames) first ??= frame
  return first
}

/** Write a source to the stream, and wait whenever its buffer is full. */
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
 * Wait until the stream accepts more bytes. libp2p's own `onDrain` works only once for each stream: later calls
 * return the promise that the first drain resolved (@libp2p/utils 7.4).
 * @throws ExchangeError `protocol` when the stream ends first; the reason of `signal` when it aborts.
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
