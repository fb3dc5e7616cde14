/**
 * The job of `audit --against`: attacks an expert of another member with text of this node. Whether that expert was
 * trained on this text is what the attack is about. Does not know how its result is printed.
 */
import { readDocuments } from '../data/readers.ts'
import { InputError } from '../lib/errors.ts'
import { reporting } from '../lib/reporting.ts'
import { piecesOfDocuments } from '../owner/audit-text.ts'
import type { AuditProgress } from '../owner/audit-training.ts'
import { publicHeldOut } from '../owner/held-out.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { PIECE_TOKENS, piecesFor, scorePair } from '../privacy/audit-expert.ts'
import type { ExtractionAudit } from '../privacy/audit-policy.ts'
import { extraction } from '../privacy/extraction-audit.ts'
import { type Membership, membership, type PairScores } from '../privacy/membership-audit.ts'
import { readExpert, type Workplace } from './workplace.ts'

export interface AttackRequest {
  /** The expert, whose file is in the store. */
  readonly manifest: Manifest
  /** Files and folders with the text that the expert may have been trained on. */
  readonly data: readonly string[]
  /** Text of the same kind on which it was certainly not trained; empty: public held-out text. */
  readonly reference: readonly string[]
  /** Column of tables that holds the text; default `text`. */
  readonly column: string | undefined
}

export interface AttackResult {
  /** `train` is the text that the expert may have been trained on, `heldOut` the reference. */
  readonly extraction: ExtractionAudit
  readonly membership: Membership
}

/** Bytes of text that are read for each piece at most: several times a piece. */
const BYTES_PER_PIECE = 16 * PIECE_TOKENS
const PROGRESS_STEPS = 1000

/** @throws InputError of `readDocuments`; `too-small` for text without a piece; as `readExpert` and `scorePair`. */
export async function* attackExpert(
  workplace: Workplace,
  { manifest, data, reference, column }: AttackRequest,
  signal: AbortSignal,
): AsyncGenerator<AuditProgress, AttackResult, void> {
  const { engine, publicModel, blobs, training } = workplace
  const { config, weights, tokenizer } = publicModel
  const most = piecesFor(config)
  const own = await piecesOfFiles(workplace, data, most, column, signal)
  const others =
    reference.length > 0
      ? await piecesOfFiles(workplace, reference, most, column, signal)
      : await piecesOfDocuments(
          await publicHeldOut(publicModel, training, signal, most * BYTES_PER_PIECE),
          tokenizer.endOfText,
          most,
        )
  const expert = await readExpert(config, blobs, manifest, signal)
  const pair = { engine, config, weights, endOfText: tokenizer.endOfText, expert, lowered: 0 }
  const scores = yield* reporting<AuditProgress, PairScores>((report) =>
    scorePair(pair, [...own, ...others], {
      signal,
      onProgress: (share) =>
        report({ stage: 'audit', done: Math.floor(share * PROGRESS_STEPS), total: PROGRESS_STEPS }),
    }),
  )
  const part = (from: number, to?: number): PairScores => ({
    public: scores.public.slice(from, to),
    pair: scores.pair.slice(from, to),
  })
  const ofOwn = part(0, own.length)
  const ofOthers = part(own.length)
  return {
    extraction: {
      train: extraction(ofOwn.pair),
      trainPublic: extraction(ofOwn.public),
      heldOut: extraction(ofOthers.pair),
    },
    membership: membership(ofOwn, ofOthers),
  }
}

async function piecesOfFiles(
  { publicModel: { tokenizer } }: Workplace,
  paths: readonly string[],
  most: number,
  column: string | undefined,
  signal: AbortSignal,
): Promise<Int32Array[]> {
  const documents: { tokens: Int32Array }[] = []
  let room = most * BYTES_PER_PIECE
  for await (const { text } of readDocuments(paths, { signal, column })) {
    documents.push({ tokens: tokenizer.encode(text) })
    room -= Buffer.byteLength(text)
    if (room <= 0) break
  }
  const pieces = await piecesOfDocuments(documents, tokenizer.endOfText, most)
  if (pieces.length > 0) return pieces
  throw new InputError(
    'too-small',
    `${paths.join(', ')}: no document is long enough to attack an expert with; give longer texts`,
  )
}
