/**
 * The pieces of a training's text that an audit attacks: of the text that was trained on and of the text that was held
 * out, cut in the same way, so that nothing but the training tells them apart. Knows nothing about models.
 */
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus } from '../data/corpus.ts'
import { disjointStretches, type TokenFile } from '../data/token-file.ts'
import { InputError } from '../lib/errors.ts'
import { pathExists } from '../lib/files.ts'
import { PIECE_TOKENS } from '../privacy/audit-expert.ts'
import { type HiddenCanaries, included, loadCanaries } from './canary-file.ts'
import type { TrainingDirs } from './training-folder.ts'

/** Shorter pieces are left out: too few tokens to recognise anything. */
const LEAST_TOKENS = 32
/** Bytes of held-out text that are read: more than an audit attacks. */
const HELD_OUT_BYTES = 2 ** 21

export interface AuditText {
  readonly train: readonly Int32Array[]
  readonly heldOut: readonly Int32Array[]
  readonly hidden: HiddenCanaries | undefined
}

/** Whether this node has the text of a training. Trainings elsewhere without an export from here have none. */
export function hasText({ corpus }: TrainingDirs): Promise<boolean> {
  return pathExists(join(corpus, 'corpus.json'))
}

/**
 * @param most maximum number of pieces of each kind
 * @throws InputError `not-found` without text, `too-small` if it is too short to be cut into pieces.
 */
export async function auditText(
  { tokenizer }: Pick<PublicModel, 'tokenizer'>,
  dirs: TrainingDirs,
  name: string,
  most: number,
): Promise<AuditText> {
  if (!(await hasText(dirs))) {
    throw new InputError('not-found', `this node has no text of the training ${name}, so it cannot audit it`)
  }
  const hidden = await loadCanaries(dirs)
  const corpus = await openCorpus(dirs.corpus, tokenizer)
  try {
    const train = await piecesOf(withoutCanaries(corpus, hidden), tokenizer.endOfText, most)
    const documents = await corpus.heldOut(HELD_OUT_BYTES)
    const heldOut = await piecesOfDocuments(documents, tokenizer.endOfText, most)
    if (train.length === 0 || heldOut.length === 0) {
      throw new InputError(
        'too-small',
        `the ${train.length === 0 ? 'training' : 'held-out'} text of ${name} has no document of ${LEAST_TOKENS} tokens, so it cannot be audited`,
      )
    }
    return { train, heldOut, hidden }
  } finally {
    await corpus.close()
  }
}

/** At most `most` pieces of some documents' tokens, cut as those of a training. */
export function piecesOfDocuments(
  documents: readonly { readonly tokens: Int32Array }[],
  endOfText: number,
  most: number,
): Promise<Int32Array[]> {
  return piecesOf(streamOf(documents, endOfText), endOfText, most)
}

type Tokens = Pick<TokenFile, 'tokens' | 'read'>

async function piecesOf(stream: Tokens, endOfText: number, most: number): Promise<Int32Array[]> {
  const stretches = await disjointStretches(stream, endOfText, PIECE_TOKENS, most)
  return stretches
    .map((ids) => (ids[0] === endOfText ? ids.slice(1) : ids))
    .filter(({ length }) => length >= LEAST_TOKENS)
}

/** The owner's own part of the training text: canaries are at its end. */
function withoutCanaries({ train }: Corpus, hidden: HiddenCanaries | undefined): Tokens {
  const appended = included(hidden?.canaries ?? []).reduce((sum, { length }) => sum + length + 1, 0)
  const tokens = train.tokens - appended
  return { tokens, read: (start, count) => train.read(start, Math.min(count, tokens - start)) }
}

/** Documents as one stream in which `endOfText` precedes each, like a token file. */
function streamOf(documents: readonly { readonly tokens: Int32Array }[], endOfText: number): Tokens {
  const ids = Int32Array.from(documents.flatMap(({ tokens }) => [endOfText, ...tokens]))
  return { tokens: ids.length, read: async (start, count) => ids.slice(start, start + count) }
}
