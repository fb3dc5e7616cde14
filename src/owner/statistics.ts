/** Router statistics of the public text for replay and of an owner's text. Knows nothing about what is published. */

import type { PublicModel } from '../checkpoint/public-model.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from '../checkpoint/safetensors.ts'
import type { Corpus } from '../data/corpus.ts'
import { disjointStretches } from '../data/token-file.ts'
import { readUnit, type Unit } from '../data/unit-index.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import { STATISTICS_WINDOW } from '../model/solved-router.ts'
import { routerStatistics, STATISTICS_DOCUMENTS } from '../training/router-statistics.ts'
import { openReplay } from './replay.ts'
import type { TrainingDirs } from './training-folder.ts'

/** Metadata key of the number of documents that the statistics average over. */
const DOCUMENTS = 'documents'
/** Enough for a vocabulary of 16 million tokens. */
const MAX_FILE_BYTES = 2 ** 26
const TOKENS = 'tokens'

/**
 * Statistics of the public expert, from the replay text. Public text needs no minimum number of documents.
 * @throws InputError of `openReplay`.
 */
export async function publicStatistics(
  model: PublicModel,
  trainingRoot: string,
  signal: AbortSignal,
): Promise<RouterStatistics> {
  const replay = await openReplay(model, trainingRoot, signal)
  try {
    return routerStatistics(model.config.vocabSize, await documentsOf(model, replay))
  } finally {
    await replay.close()
  }
}

/** Statistics of an owner's text, and the number of documents that they average over. */
export interface OwnStatistics {
  readonly statistics: RouterStatistics
  readonly documents: number
}

/** Statistics of a training's own text; undefined if it has too few documents to publish their mean. */
export async function ownStatistics(model: PublicModel, corpus: Corpus): Promise<OwnStatistics | undefined> {
  const documents = await documentsOf(model, corpus)
  if (documents.length < limit('statisticsDocuments')) return undefined
  return { statistics: routerStatistics(model.config.vocabSize, documents), documents: documents.length }
}

/**
 * The same of a private training, with one document for every unit, its first tokens, so that noise protects units;
 * undefined for too few units.
 */
export async function unitStatistics(
  model: PublicModel,
  { train }: Pick<Corpus, 'train'>,
  units: readonly Unit[],
): Promise<OwnStatistics | undefined> {
  const count = Math.min(units.length, STATISTICS_DOCUMENTS)
  if (count < limit('statisticsDocuments')) return undefined
  // The first units, not some that are spread over all: one unit more then changes at most one of them.
  const documents = await Promise.all(
    units.slice(0, count).map((unit) => readUnit(train, unit, 0, STATISTICS_WINDOW)),
  )
  return { statistics: routerStatistics(model.config.vocabSize, documents), documents: count }
}

/** The stretches of the training text that statistics average over; see `disjointStretches`. */
function documentsOf(model: PublicModel, { train }: Corpus): Promise<Int32Array[]> {
  return disjointStretches(train, model.tokenizer.endOfText, STATISTICS_WINDOW, STATISTICS_DOCUMENTS)
}

/** Keep the statistics for an expert that is trained elsewhere, since the text stays here. */
export async function saveOwnStatistics(dirs: TrainingDirs, own: OwnStatistics): Promise<void> {
  const { tokens } = own.statistics
  const entry = {
    name: TOKENS,
    dtype: 'F32' as const,
    shape: [tokens.length],
    data: fromFloat32(tokens, 'F32'),
  }
  await writeFileAtomic(
    dirs.statistics,
    writeSafetensors([entry], new Map([[DOCUMENTS, String(own.documents)]])),
  )
}

/** Statistics kept by `saveOwnStatistics`; undefined if there are none. */
export async function loadOwnStatistics(dirs: TrainingDirs): Promise<OwnStatistics | undefined> {
  if (!(await pathExists(dirs.statistics))) return undefined
  const { tensors, metadata } = readSafetensors(await readFileBounded(dirs.statistics, MAX_FILE_BYTES))
  const tokens = tensors.get(TOKENS)
  return tokens && { statistics: { tokens: toFloat32(tokens) }, documents: Number(metadata.get(DOCUMENTS)) }
}
