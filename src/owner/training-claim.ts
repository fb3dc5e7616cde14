/**
 * Claims on training folders: at most one activity of this process writes into a folder at a time. Does not see other
 * processes: the lock of the catalogue keeps them out of a home, and the one that imports an expert beside a running node
 * asks that node for a claim.
 */
import { resolve } from 'node:path'
import { InputError } from '../lib/errors.ts'
import type { TrainingDirs } from './training-folder.ts'

type Activity = 'train' | 'export' | 'import' | 'forget'

/** What each activity is doing to the training `name`, for the message. */
const WORDS: Record<Activity, (name: string) => string> = {
  train: (name) => `training "${name}" is running already`,
  export: (name) => `the pair of training "${name}" is being exported`,
  import: (name) => `training "${name}" is being imported`,
  forget: (name) => `training "${name}" is being deleted`,
}

/** Activities under way, by folder. */
const claims = new Map<string, Activity>()

/**
 * Claim the folder of a training. Nothing is claimed if this throws.
 * @returns the function that gives the folder up.
 * @throws InputError `exists` while another activity holds the folder.
 */
export function claimTraining({ dir }: TrainingDirs, name: string, activity: Activity): () => void {
  const folder = resolve(dir)
  const holder = claims.get(folder)
  if (holder !== undefined) {
    const other = activity === 'forget' ? '' : ', or choose another --name'
    throw new InputError('exists', `${WORDS[holder](name)}; wait until it ends${other}`)
  }
  claims.set(folder, activity)
  return () => claims.delete(folder)
}
