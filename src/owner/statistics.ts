/** Router statistics of the texts that a node holds: public text for replay, and the owner's own. */

import type { PublicModel } from '../checkpoint/public-model.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from '../checkpoint/safetensors.ts'
import type { Corpus } from '../data/corpus.ts'
import { disjointStretches } from '../data/token-file.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import type { RouterStatistics } from '../model/solved-router.ts'
import { STATISTICS_WINDOW } from '../model/solved-router.ts'
import { routerStatistics, STATISTICS_DOCUMENTS } from '../training/router-statistics.ts'
import { openReplay, type TrainingDirs } from './training-folder.ts'

/** Metadata key of how many documents own statistics average over. */
const DOCUMENTS = 'documents'
/** Statistics of a vocabulary of 16 million tokens. */
const MAX_FILE_BYTES = 2 ** 26
const TOKENS = 'tokens'

/**
 * Statistics of the public model's own expert, from its text for replay. Public text needs no minimum of
 * documents.
 * @throws InputError of `prepareCorpus`.
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

/** What an owner publishes for gates, and what it averages over. */
export interface OwnStatistics {
  readonly statistics: RouterStatistics
  readonly documents: number
}

/** Statistics of a training's own text; nothing where it has too few documents to publish a mean of them. */
export async function ownStatistics(model: PublicModel, corpus: Corpus): Promise<OwnStatistics | undefined> {
  const documents = await documentsOf(model, corpus)
  if (documents.length < limit('statisticsDocuments')) return undefined
  return { statistics: routerStatistics(model.config.vocabSize, documents), documents: documents.length }
}

/** Stretches of a corpus's training text that statistics average over; see `disjointStretches`. */
function documentsOf(model: PublicModel, { train }: Corpus): Promise<Int32Array[]> {
  return disjointStretches(train, model.tokenizer.endOfText, STATISTICS_WINDOW, STATISTICS_DOCUMENTS)
}

/** Keep them for an expert that is trained elsewhere: they are of the text, which stays here. */
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

/** Statistics of a training that was exported from here, if its text had enough documents. */
export async function loadOwnStatistics(dirs: TrainingDirs): Promise<OwnStatistics | undefined> {
  if (!(await pathExists(dirs.statistics))) return undefined
  const { tensors, metadata } = readSafetensors(await readFileBounded(dirs.statistics, MAX_FILE_BYTES))
  const tokens = tensors.get(TOKENS)
  return tokens && { statistics: { tokens: toFloat32(tokens) }, documents: Number(metadata.get(DOCUMENTS)) }
}
