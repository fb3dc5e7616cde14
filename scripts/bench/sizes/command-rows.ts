/** Rows of single commands: founding, publishing, exporting, and the pair for training elsewhere. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { ROOT } from '../node-process.ts'
import type { ModelFindings, Rows } from './findings.ts'
import { installTraining, linkPublicModel, remove, requireDisk } from './home.ts'
import { runMeasured } from './measured-process.ts'
import { expertBytes, type ModelPlan, publicBytes } from './model-plan.ts'
import { writePair, writePublicModel } from './random-model.ts'

/** Text of an example institution. */
export const TEXT = join(ROOT, 'examples', 'hospital', 'text')
/** Expert that the pair holds, beside those of the composition. */
const PAIR_INDEX = 100

/** What all rows of one model share. */
export interface Task {
  readonly plan: ModelPlan
  readonly rows: Rows
  readonly findings: ModelFindings
  /** Folder for files of this model, and the home of its founder in it. */
  readonly work: string
  readonly home: string
}

/** Names of the experts of the composition, as they are trained and published. */
export function expertName(index: number): string {
  return `expert-${index}`
}

/** `init` and `consortium create`. @throws Error if the consortium cannot be founded: no other row can follow. */
export async function create({ plan, rows, findings, work, home }: Task): Promise<void> {
  await requireDisk(work, plan.disk)
  const model = join(work, 'published')
  await writePublicModel(model, plan.config)
  rows.say('wrote the public model')
  const place = ['--home', home]
  // Members find the founder again at the port of its invitation.
  const listen = `/ip4/127.0.0.1/tcp/${await freePort()}`
  const settings = ['--institution', 'Bench', '--insecure', '--no-mdns', '--listen', listen]
  await runMeasured(['init', ...settings, ...place])
  const created = await runMeasured([
    'consortium',
    'create',
    '--public-model',
    model,
    '--name',
    'Bench',
    ...place,
  ])
  await remove(model)
  await linkPublicModel(home)
  findings.createMB = created.peakMB
  findings.createSeconds = seconds(created.took)
  rows.say(`create: ${created.peakMB} MB, ${created.took.toFixed(1)} s`)
}

/** Publishes expert number `index` (from 1). The first whole one is the row. */
export async function publish({ plan, rows, findings, work, home }: Task, index: number): Promise<void> {
  const name = expertName(index)
  const rank = plan.experts[index - 1]
  await requireDisk(work, 2.1 * expertBytes(plan.config, rank))
  await installTraining(home, name, plan.config, index, rank)
  const published = await runMeasured(['publish', name, '--yes', '--home', home])
  await remove(join(home, 'training', name))
  rows.say(`publish ${name}: ${published.peakMB} MB, ${published.took.toFixed(1)} s`)
  if (rank !== undefined || findings.publishMB !== undefined) return
  findings.publishMB = published.peakMB
  findings.publishSeconds = seconds(published.took)
}

/** `compose --export`. @returns the folder, for a peer that reads it. */
export async function exportComposition({ plan, rows, findings, work, home }: Task): Promise<string> {
  const { config, experts } = plan
  // Low-rank experts are exported as whole ones, in float32.
  const guests = experts.reduce(
    (sum: number, rank) => sum + (rank === undefined ? 1 : 2) * expertBytes(config, undefined),
    0,
  )
  await requireDisk(work, publicBytes(config) + guests)
  const dir = join(work, 'exported')
  const exported = await runMeasured(['compose', '--export', dir, '--drop-bias', '--home', home])
  findings.exportMB = exported.peakMB
  findings.exportSeconds = seconds(exported.took)
  rows.say(`export: ${exported.peakMB} MB, ${exported.took.toFixed(1)} s`)
  return dir
}

/** `import-expert` of a pair that was trained elsewhere. */
export async function importExpert({ plan, rows, findings, work, home }: Task): Promise<void> {
  const { config } = plan
  await requireDisk(work, publicBytes(config) + 3 * expertBytes(config, undefined))
  const pair = join(work, 'pair')
  try {
    await writePair(pair, config, PAIR_INDEX)
    const imported = await runMeasured(['import-expert', pair, '--name', 'imported', '--home', home])
    findings.importMB = imported.peakMB
    findings.importSeconds = seconds(imported.took)
    rows.say(`import: ${imported.peakMB} MB, ${imported.took.toFixed(1)} s`)
  } finally {
    await remove(pair)
    await remove(join(home, 'training', 'imported'))
  }
}

/** `train --export-pair`. */
export async function exportPair({ plan, rows, findings, work, home }: Task): Promise<void> {
  const { config } = plan
  await requireDisk(work, publicBytes(config) + 2 * expertBytes(config, undefined))
  const pair = join(work, 'exported-pair')
  try {
    const args = ['train', '--name', 'pair', '--data', TEXT, '--export-pair', pair, '--home', home]
    const exported = await runMeasured(args)
    findings.exportPairMB = exported.peakMB
    rows.say(`export of a pair: ${exported.peakMB} MB, ${exported.took.toFixed(1)} s`)
  } finally {
    await remove(pair)
    await remove(join(home, 'training', 'pair'))
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

export function seconds(value: number): number {
  return Math.round(value * 10) / 10
}
