/**
 * The canaries of a training: written and hidden while its text is prepared, and kept in its folder, readable by the
 * owner only, for the audit. Which ones are in the text never leaves the file. Does not know how they are scored.
 */
import { rm } from 'node:fs/promises'
import type { PublicModel } from '../checkpoint/public-model.ts'
import type { SideStats } from '../data/corpus.ts'
import { fromUtf8 } from '../lib/bytes.ts'
import { InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { MAX_SEED, randomSeed } from '../lib/random.ts'
import { type Canary, hideCanaries, writeCanaries } from '../privacy/canaries.ts'
import { CANARY_TOKENS, defaultCanaries, MOST_CANARIES } from '../privacy/canary-number.ts'
import type { Engine } from '../tensor/engine.ts'
import type { TrainingDirs } from './training-folder.ts'

/** Canaries of one training. */
export interface HiddenCanaries {
  /** From which the public model wrote them. */
  readonly seed: number
  readonly canaries: readonly Canary[]
}

const FILE = 'canaries.json'
const MAX_FILE_BYTES = 2 ** 20

/**
 * Writes the canaries of a text, hides them and keeps them.
 * @param count number of canaries; undefined: as `defaultCanaries`
 * @param text size of the training text
 * @returns those that belong into the text
 * @throws as `writeCanaries`; InputError `disk-full`.
 */
export async function hideInText(
  engine: Engine,
  model: Pick<PublicModel, 'config' | 'weights' | 'tokenizer'>,
  dirs: TrainingDirs,
  count: number | undefined,
  text: SideStats,
  signal: AbortSignal,
): Promise<Int32Array[]> {
  const { config, weights, tokenizer } = model
  const size = [...weights.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0)
  const wanted = count ?? defaultCanaries(text.tokens, size)
  await rm(dirs.canaries, { force: true }) // A preparation that was interrupted has left it.
  if (wanted === 0) return []
  const seed = randomSeed()
  const writer = { engine, config, weights, endOfText: tokenizer.endOfText }
  const canaries = hideCanaries(await writeCanaries(writer, wanted, seed, signal))
  await writeFileAtomic(
    dirs.canaries,
    JSON.stringify({
      version: 1,
      seed,
      canaries: canaries.map(({ tokens, isIncluded }) => ({ isIncluded, tokens: [...tokens] })),
    }),
  )
  return included(canaries)
}

export function included(canaries: readonly Canary[]): Int32Array[] {
  return canaries.filter(({ isIncluded }) => isIncluded).map(({ tokens }) => tokens)
}

/** The canaries of a training; undefined if it has none. @throws FormatError for a damaged file. */
export async function loadCanaries(dirs: TrainingDirs): Promise<HiddenCanaries | undefined> {
  if (!(await pathExists(dirs.canaries))) return undefined
  const json: unknown = JSON.parse(fromUtf8(await readFileBounded(dirs.canaries, MAX_FILE_BYTES)))
  const fields = new Fields(json, FILE)
  fields.literal('version', 1)
  return {
    seed: fields.uint('seed', MAX_SEED),
    canaries: fields.list('canaries', MOST_CANARIES, (item, title) => {
      const canary = new Fields(item, title)
      const ids = canary.list('tokens', CANARY_TOKENS, (id) => Number(id), CANARY_TOKENS)
      return { tokens: Int32Array.from(ids), isIncluded: canary.bool('isIncluded') }
    }),
  }
}

/**
 * A training that was begun keeps its canaries.
 * @throws InputError `exists` if another number is asked for.
 */
export async function checkCanaries(
  dirs: TrainingDirs,
  name: string,
  wanted: number | undefined,
): Promise<void> {
  if (wanted === undefined) return
  const known = (await loadCanaries(dirs))?.canaries.length ?? 0
  if (known === wanted) return
  throw new InputError(
    'exists',
    `training ${name} was begun with ${known} canaries; leave out --canaries to continue it, or choose another --name`,
  )
}
