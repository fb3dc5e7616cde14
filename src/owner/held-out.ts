/** Held-out documents of a training and of the public text. Knows nothing about scores. */
import { join } from 'node:path'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { type Corpus, openCorpus } from '../data/corpus.ts'
import { pathExists } from '../lib/files.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import { openReplay } from './replay.ts'
import { finishedTrainings, trainingDirs } from './training-folder.ts'

/** Bytes of held-out text that a training is scored on. */
export const SCORED_BYTES = 32_768

/** Held-out documents of one training; empty if it has no text here, as for an expert trained elsewhere. */
export async function ownHeldOut(
  model: Pick<PublicModel, 'tokenizer'>,
  trainingRoot: string,
  name: string,
  maxBytes: number = SCORED_BYTES,
): Promise<HeldOutDocument[]> {
  const { corpus } = trainingDirs(trainingRoot, name)
  if (!(await pathExists(join(corpus, 'corpus.json')))) return []
  return heldOutOf(await openCorpus(corpus, model.tokenizer), maxBytes)
}

/** Held-out documents of every finished training, of at most `maxBytes` bytes each. */
export async function allOwnHeldOut(
  model: Pick<PublicModel, 'tokenizer'>,
  trainingRoot: string,
  maxBytes: number,
): Promise<HeldOutDocument[]> {
  const documents: HeldOutDocument[] = []
  for (const name of await finishedTrainings(trainingRoot)) {
    documents.push(...(await ownHeldOut(model, trainingRoot, name, maxBytes)))
  }
  return documents
}

/** Held-out documents of the public text for replay. @throws InputError of `openReplay`. */
export async function publicHeldOut(
  model: Pick<PublicModel, 'tokenizer' | 'replay'>,
  trainingRoot: string,
  signal: AbortSignal,
  maxBytes: number = SCORED_BYTES,
): Promise<HeldOutDocument[]> {
  return heldOutOf(await openReplay(model, trainingRoot, signal), maxBytes)
}

/** Closes the corpus. */
async function heldOutOf(corpus: Corpus, maxBytes: number): Promise<HeldOutDocument[]> {
  try {
    return await corpus.heldOut(maxBytes)
  } finally {
    await corpus.close()
  }
}
