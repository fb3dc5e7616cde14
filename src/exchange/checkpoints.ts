/**
 * The checkpoints protocol: a member asks others to cosign a checkpoint of its log, and asks what they know of the
 * checkpoints of all members. Implements protocols/transparency-log, section "Exchange". Does not open checkpoints.
 */
import type { PeerIdString } from '../identity/keys.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import { ExchangeError, FormatError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'
import { firstFrame, requireFrame } from '../network/frames.ts'
import type { Answer, Asker } from '../network/network.ts'
import type { ProtocolRow } from '../network/protocol.ts'
import { decodeSize } from '../transparency/checkpoint.ts'
import type { CheckpointNews, KnownCheckpoint } from '../transparency/checkpoint-notes.ts'
import type { WitnessAnswer } from '../transparency/witness.ts'
import { STATUS, type WitnessStatus } from '../transparency/witness-rules.ts'

export const CHECKPOINTS: ProtocolRow = {
  id: '/flexmesh/checkpoints/1.0.0',
  maxRequestBytes: limit('requestBytes'),
  // 1 KiB holds what CBOR adds.
  maxResponseBytes: limit('witnessKeyBytes') + limit('checkpointBytes') + 1024,
  maxResponseFrames: limit('members'),
  timeoutMs: limit('chunkTimeout'),
  timeoutPer: 'answer',
  maxInboundStreams: limit('protocolInboundStreams'),
  // A member asks once in every sync, and once or twice for each checkpoint.
  quota: { burst: 256, everyMs: 20 },
  guests: 'none',
  sends: (value) => {
    const kind = decodeCheckpointsRequest(value).kind === 'add' ? 'cosignature' : 'checkpoint'
    return () => ({ kind })
  },
}

/** Longest body of an answer: a few signature lines, or a reason. */
const MAX_ANSWER_BODY = 4096

export interface CheckpointHandlers {
  /** Decide whether to cosign. @param body as tlog-witness defines it */
  onAddCheckpoint(body: Uint8Array): Promise<WitnessAnswer>
  /** What a node that holds `known` lacks. */
  checkpointsSince(known: readonly KnownCheckpoint[]): readonly CheckpointNews[]
  knownCheckpoints(): readonly KnownCheckpoint[]
  /** Resolves once the news is stored or ignored. @throws FormatError, VerificationError. */
  onCheckpoint(news: CheckpointNews): Promise<void>
}

export type CheckpointsRequest =
  | { readonly kind: 'add'; readonly body: Uint8Array }
  | { readonly kind: 'list'; readonly known: readonly KnownCheckpoint[] }

/** @throws FormatError `bad-field`. */
export function decodeCheckpointsRequest(value: unknown): CheckpointsRequest {
  const fields = new Fields(value, 'checkpoints request')
  const kind = fields.literal('kind', 'add', 'list')
  if (kind === 'add') {
    const body = fields.bytes('body', { max: limit('addCheckpointBytes') })
    fields.end()
    return { kind, body }
  }
  const known = fields.list('known', limit('members'), (item, title) => {
    const entry = new Fields(item, title)
    const one = {
      publisher: entry.text('publisher', 64),
      size: entry.uint('size'),
      cosignatures: entry.uint('cosignatures', limit('members')),
      keyIssuedAt: entry.uint('keyIssuedAt'),
    }
    entry.end()
    return one
  })
  fields.end()
  return { kind, known }
}

const STATUSES = Object.values(STATUS)

/** @throws FormatError `bad-field`. */
export function decodeCosignFrame(value: unknown): WitnessAnswer {
  const fields = new Fields(value, 'cosign frame')
  const status: WitnessStatus = fields.literal('status', ...STATUSES)
  const body = fromUtf8(fields.bytes('body', { max: MAX_ANSWER_BODY }))
  fields.end()
  return { status, body }
}

/** @throws FormatError `bad-field`. */
export function decodeCheckpointFrame(value: unknown): CheckpointNews {
  const fields = new Fields(value, 'checkpoint frame')
  const publisher = fields.text('publisher', 64)
  const witnessKey = fields.has('witnessKey')
    ? fields.bytes('witnessKey', { max: limit('witnessKeyBytes') })
    : undefined
  const note = fields.has('note') ? fields.bytes('note', { max: limit('checkpointBytes') }) : undefined
  fields.end()
  if (witnessKey === undefined && note === undefined) {
    throw new FormatError('bad-field', 'checkpoint frame: expected witnessKey or note, got neither')
  }
  return {
    publisher,
    ...(witnessKey === undefined ? {} : { witnessKey }),
    ...(note === undefined ? {} : { note }),
  }
}

export function serveCheckpoints({ handlers }: { readonly handlers: CheckpointHandlers }): Answer {
  return async function* (value) {
    const request = decodeCheckpointsRequest(value)
    if (request.kind === 'list') {
      yield* handlers.checkpointsSince(request.known)
      return
    }
    const { status, body } = await handlers.onAddCheckpoint(request.body)
    yield { status, body: utf8(body) }
  }
}

/** Ask a member what it knows of the checkpoints of all members. */
export async function pullCheckpoints(
  network: Asker,
  peer: PeerIdString,
  handlers: Pick<CheckpointHandlers, 'knownCheckpoints' | 'onCheckpoint'>,
  signal: AbortSignal,
): Promise<void> {
  const request = { kind: 'list', known: handlers.knownCheckpoints() }
  for await (const frame of network.ask(peer, CHECKPOINTS, request, signal)) {
    await handlers.onCheckpoint(decodeCheckpointFrame(frame))
  }
}

/**
 * Ask a member to cosign a checkpoint.
 * @param requestFor the body for the size that the member cosigned last; undefined to ask nothing
 * @param oldSize the size that it probably cosigned last
 * @returns the signature lines; undefined if nothing was asked.
 * @throws ExchangeError, `refused` with the status and the reason of the member; FormatError.
 */
export async function askCosignature(
  network: Asker,
  peer: PeerIdString,
  requestFor: (oldSize: number) => Promise<Uint8Array | undefined>,
  oldSize: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const first = await askOnce(network, peer, await requestFor(oldSize), signal)
  if (first?.status !== STATUS.conflict) return linesOf(peer, first)
  const size = decodeSize(first.body.trimEnd())
  if (size === undefined) throw new FormatError('bad-field', `${peer}: expected a size, got "${first.body}"`)
  return linesOf(peer, await askOnce(network, peer, await requestFor(size), signal))
}

async function askOnce(
  network: Asker,
  peer: PeerIdString,
  body: Uint8Array | undefined,
  signal: AbortSignal,
): Promise<WitnessAnswer | undefined> {
  if (body === undefined) return undefined
  const frame = await firstFrame(network.ask(peer, CHECKPOINTS, { kind: 'add', body }, signal))
  return decodeCosignFrame(requireFrame(frame, CHECKPOINTS.id))
}

function linesOf(peer: PeerIdString, answer: WitnessAnswer | undefined): string | undefined {
  if (answer === undefined || answer.status === STATUS.cosigned) return answer?.body
  throw new ExchangeError('refused', `${peer} does not cosign: ${answer.status} ${answer.body.trimEnd()}`, {
    remote: 'refused',
    status: answer.status,
  })
}
