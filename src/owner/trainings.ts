/** All finished trainings of a home together: their names, their held-out text, their experts. Knows no engine. */
import { readdir } from 'node:fs/promises'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { pathExists } from '../lib/files.ts'
import type { HeldOutDocument } from '../model/evaluate.ts'
import type { Expert } from '../model/params.ts'
import { loadTrained, ownHeldOut } from './training-folder.ts'

/** Names; a training is finished once its result is written. */
export async function finishedTrainings(trainingRoot: string): Promise<string[]> {
  if (!(await pathExists(trainingRoot))) return []
  const names = (await readdir(trainingRoot)).filter((name) => !name.startsWith('.'))
  const finished = await Promise.all(names.map((name) => pathExists(`${trainingRoot}/${name}/result.json`)))
  return names.filter((_, i) => finished[i])
}

/** Held-out documents of every training, at most `maxBytes` of each. */
export async function allHeldOut(
  model: PublicModel,
  trainingRoot: string,
  maxBytes: number,
): Promise<HeldOutDocument[]> {
  const documents: HeldOutDocument[] = []
  for (const name of await finishedTrainings(trainingRoot))
    documents.push(...(await ownHeldOut(model, trainingRoot, name, maxBytes)))
  return documents
}

/** Experts of the trainings whose names are not among those `published`. */
export async function unpublishedExperts(
  model: PublicModel,
  trainingRoot: string,
  published: readonly string[],
): Promise<Expert[]> {
  const experts: Expert[] = []
  for (const name of await finishedTrainings(trainingRoot)) {
    if (!published.includes(name)) experts.push((await loadTrained(model, trainingRoot, name)).expert)
  }
  return experts
}
