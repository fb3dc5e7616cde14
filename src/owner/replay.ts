/**
 * The public text for replay that ships with the public model, prepared as a corpus once for all trainings of a
 * home. Knows nothing about any single training.
 */
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus } from '../data/corpus.ts'
import { prepareCorpus } from '../data/prepare-corpus.ts'
import { pathExists } from '../lib/files.ts'
import { SharedWork } from '../lib/shared-work.ts'

/** Preparations under way in this process, by folder: two that write the same files would destroy each other's. */
const preparations = new SharedWork<void>()

/**
 * Open the replay text and prepare it first if no earlier call did; concurrent callers share one preparation.
 * @throws InputError of `prepareCorpus` and `openCorpus`.
 */
export async function openReplay(
  model: Pick<PublicModel, 'tokenizer' | 'replay'>,
  trainingRoot: string,
  signal: AbortSignal,
): Promise<Corpus> {
  const { tokenizer, replay } = model
  const outDir = join(trainingRoot, '.replay')
  /** A corpus that a crash or a fault of the disk has damaged counts as missing: the text is at hand. */
  const isPrepared = async (): Promise<boolean> => {
    if (!(await pathExists(join(outDir, 'corpus.json')))) return false
    try {
      await (await openCorpus(outDir, tokenizer)).close()
      return true
    } catch {
      return false
    }
  }
  const prepare = async (shared: AbortSignal): Promise<void> => {
    if (await isPrepared()) return
    const corpus = await prepareCorpus({ paths: [replay], tokenizer, outDir, signal: shared })
    await corpus.close()
  }
  await preparations.run(outDir, prepare, signal)
  return openCorpus(outDir, tokenizer)
}
