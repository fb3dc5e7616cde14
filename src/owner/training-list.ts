/** The trainings in a home folder, finished or not. Knows nothing about what is computed now. */
import { readdir } from 'node:fs/promises'
import { pathExists } from '../lib/files.ts'
import { checkpointFile } from './checkpoint-file.ts'
import { begunPrivacy } from './private-text.ts'
import { loadResult, type Score, trainingDirs } from './training-folder.ts'

export interface KnownTraining {
  readonly name: string
  readonly isFinished: boolean
  /** Step of the checkpoint from which an unfinished training continues; absent before the first checkpoint. */
  readonly step?: number
  /** Number of steps of a finished training; 0 for training elsewhere. */
  readonly steps?: number
  /** Bits per byte on the owner's held-out text and on public text. */
  readonly own?: Score
  readonly public?: Score
  /** Epsilon of the guarantee for every unit; absent if nothing protects the text in the weights. */
  readonly epsilon?: number
  /** Whether a report of an audit is kept. */
  readonly isAudited: boolean
}

/** By name. @param root folder of the trainings, which need not exist. */
export async function knownTrainings(root: string): Promise<KnownTraining[]> {
  if (!(await pathExists(root))) return []
  const entries = await readdir(root, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
  return Promise.all(
    names
      .map(({ name }) => name)
      .sort()
      .map((name) => describe(root, name)),
  )
}

async function describe(root: string, name: string): Promise<KnownTraining> {
  const dirs = trainingDirs(root, name)
  const isFinished = await pathExists(dirs.result)
  const privacy = await begunPrivacy(dirs)
  const common = {
    name,
    isFinished,
    ...(privacy === undefined ? {} : { epsilon: privacy.epsilon }),
    isAudited: await pathExists(dirs.audit),
  }
  if (!isFinished) {
    const saved = await checkpointFile(dirs.checkpoint).load()
    return { ...common, ...(saved === undefined ? {} : { step: saved.step }) }
  }
  const { steps, own, public: scored } = await loadResult(dirs)
  return {
    ...common,
    steps,
    ...(own === undefined ? {} : { own }),
    ...(scored === undefined ? {} : { public: scored }),
  }
}
