/** Router statistics of the texts that a node holds: public text for replay, and the owner's own. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Corpus } from './data/corpus.ts'
import { disjointStretches } from './data/token-file.ts'
import { pathExists, readFileBounded, writeFileAtomic } from './lib/files.ts'
import { layerName } from './model/params.ts'
import { FEATURE_DECAY, type RouterStatistics } from './model/solved-router.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from './packaging/safetensors.ts'
import type { PublicModel } from './public-model.ts'
import type { Engine } from './tensor/engine.ts'
import { openReplay, replayDir } from './trained-expert.ts'
import { routerStatistics, STATISTICS_DOCUMENTS, STATISTICS_WINDOW } from './training/router-statistics.ts'

const CACHE_FILE = 'router-statistics.safetensors'
/** Metadata key under which the cache names what it was computed from. */
const SOURCE = 'source'
/** Statistics of a stream 16,384 wide. */
const MAX_CACHE_BYTES = 2 ** 30

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
  const cached = await readCache(path, source)
  if (cached !== undefined) return cached
  const replay = await openReplay(model, trainingRoot, signal)
  try {
    const statistics = await routerStatistics(
      engine,
      model.config,
      model.params,
      await documentsOf(model, replay),
      signal,
    )
    await writeCache(path, source, statistics)
    return statistics
  } finally {
    await replay.close()
  }
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

async function readCache(path: string, source: string): Promise<RouterStatistics | undefined> {
  if (!(await pathExists(path))) return undefined
  const { tensors, metadata } = readSafetensors(await readFileBounded(path, MAX_CACHE_BYTES))
  const second = tensors.get('second')
  const mean = tensors.get('mean')
  if (metadata.get(SOURCE) !== source || second === undefined || mean === undefined) return undefined
  return { second: toFloat32(second), mean: toFloat32(mean) }
}

async function writeCache(path: string, source: string, statistics: RouterStatistics): Promise<void> {
  const entries = (['second', 'mean'] as const).map((name) => ({
    name,
    dtype: 'F32' as const,
    shape: [statistics[name].length],
    data: fromFloat32(statistics[name], 'F32'),
  }))
  await writeFileAtomic(path, writeSafetensors(entries, new Map([[SOURCE, source]])))
}
