/** Router statistics of the texts that a node holds: public text for replay, and the owner's own. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Corpus } from './data/corpus.ts'
import { disjointStretches } from './data/token-file.ts'
import { pathExists, readFileBounded, writeFileAtomic } from './lib/files.ts'
import { limit } from './lib/limits.ts'
import { layerName } from './model/params.ts'
import { FEATURE_DECAY, type RouterStatistics } from './model/solved-router.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from './packaging/safetensors.ts'
import type { PublicModel } from './public-model.ts'
import type { Engine } from './tensor/engine.ts'
import { openReplay, replayDir, type TrainingDirs } from './trained-expert.ts'
import { routerStatistics, STATISTICS_DOCUMENTS, STATISTICS_WINDOW } from './training/router-statistics.ts'

const CACHE_FILE = 'router-statistics.safetensors'
/** Metadata key under which the cache names what it was computed from. */
const SOURCE = 'source'
/** Metadata key of how many documents own statistics average over. */
const DOCUMENTS = 'documents'
/** Statistics of a stream 16,384 wide. */
const MAX_FILE_BYTES = 2 ** 30

/**
 * Statistics of the public model's own expert, from its text for replay. Public text needs no minimum of
 * documents. Computed once; later calls read the file beside the prepared text.
 * @throws InputError of `prepareCorpus`.
 */
export async function publicStatistics(
  engine: Engine,
  model: PublicModel,
  trainingRoot: string,
  signal: AbortSignal,
): Promise<RouterStatistics> {
  const path = join(replayDir(trainingRoot), CACHE_FILE)
  const source = sourceOf(model)
  const cached = await read(path)
  if (cached?.metadata.get(SOURCE) === source) return cached.statistics
  const replay = await openReplay(model, trainingRoot, signal)
  try {
    const statistics = await routerStatistics(
      engine,
      model.config,
      model.params,
      await documentsOf(model, replay),
      signal,
    )
    await write(path, [SOURCE, source], statistics)
    return statistics
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
export async function ownStatistics(
  engine: Engine,
  model: PublicModel,
  corpus: Corpus,
  signal: AbortSignal,
): Promise<OwnStatistics | undefined> {
  const documents = await documentsOf(model, corpus)
  if (documents.length < limit('statisticsDocuments')) return undefined
  const statistics = await routerStatistics(engine, model.config, model.params, documents, signal)
  return { statistics, documents: documents.length }
}

/** Stretches of a corpus's training text that statistics average over; see `disjointStretches`. */
function documentsOf(model: PublicModel, { train }: Corpus): Promise<Int32Array[]> {
  return disjointStretches(train, model.tokenizer.endOfText, STATISTICS_WINDOW, STATISTICS_DOCUMENTS)
}

/** Changes with everything but the text that statistics depend on. */
function sourceOf({ params }: PublicModel): string {
  const hash = createHash('sha256').update(`${FEATURE_DECAY} ${STATISTICS_WINDOW} ${STATISTICS_DOCUMENTS}`)
  for (const [name, { data }] of params) {
    if (name.startsWith(layerName(0, 'self_attn'))) {
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
    }
  }
  return hash.digest('hex')
}

/** Keep them for an expert that is trained elsewhere: they are of the text, which stays here. */
export async function saveOwnStatistics(dirs: TrainingDirs, own: OwnStatistics): Promise<void> {
  await write(dirs.statistics, [DOCUMENTS, String(own.documents)], own.statistics)
}

/** Statistics of a training that was exported from here, if its text had enough documents. */
export async function loadOwnStatistics(dirs: TrainingDirs): Promise<OwnStatistics | undefined> {
  const found = await read(dirs.statistics)
  return found === undefined
    ? undefined
    : { statistics: found.statistics, documents: Number(found.metadata.get(DOCUMENTS)) }
}

async function read(
  path: string,
): Promise<{ statistics: RouterStatistics; metadata: ReadonlyMap<string, string> } | undefined> {
  if (!(await pathExists(path))) return undefined
  const { tensors, metadata } = readSafetensors(await readFileBounded(path, MAX_FILE_BYTES))
  const second = tensors.get('second')
  const mean = tensors.get('mean')
  if (second === undefined || mean === undefined) return undefined
  return { statistics: { second: toFloat32(second), mean: toFloat32(mean) }, metadata }
}

async function write(
  path: string,
  metadata: readonly [string, string],
  statistics: RouterStatistics,
): Promise<void> {
  const entries = (['second', 'mean'] as const).map((name) => ({
    name,
    dtype: 'F32' as const,
    shape: [statistics[name].length],
    data: fromFloat32(statistics[name], 'F32'),
  }))
  await writeFileAtomic(path, writeSafetensors(entries, new Map([metadata])))
}
