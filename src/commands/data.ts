/** The commands `data` and `forget`: the private copies in the home folder, and deleting those of a training. */
import { ownCommand } from '../lib/command-line.ts'
import type { PrivateFile } from '../owner/private-data.ts'
import { nodeCommand } from './command.ts'
import { EXPERT_NAME } from './common-parameters.ts'
import { flag, positional } from './parameters.ts'
import { table } from './terminal.ts'

const DAY_SECONDS = 86_400

export const DATA = nodeCommand({
  name: 'data',
  usage: 'data',
  parameters: {},
  async *run(node) {
    const { privateFiles } = await import('../owner/private-data.ts')
    const { root, training } = node.paths
    const files = await privateFiles(root, training)
    return { home: root, now: node.now(), files, open: files.filter(({ mode }) => (mode & 0o077) !== 0) }
  },
  words: ({ home, now, files, open }) => {
    const trainings = [...new Set(files.flatMap(({ training }) => training ?? []))]
    const others = files.filter(({ training }) => training === undefined)
    return [
      `private copies in ${home}`,
      ...trainings.flatMap((name) => {
        const own = files.filter(({ training }) => training === name)
        return [
          '',
          `training ${name}, ${size(sum(own))}; to delete it: ${ownCommand('forget', name)}`,
          ...lines(own, now),
        ]
      }),
      '',
      'of the node itself',
      ...lines(others, now),
      ...open.map(
        ({ path, mode }) =>
          `warning: ${path} has mode ${modeText(mode)}, so others can read it if the home folder is opened to them or copied; run: chmod -R go= ${home}`,
      ),
      'the files that --data named are not listed: they are where you keep them',
    ]
  },
})

interface Forgotten {
  readonly name: string
  readonly isDeleted: boolean
  readonly files: readonly PrivateFile[]
  /** Unix seconds. */
  readonly now: number
  readonly isPublished: boolean
}

export const FORGET = nodeCommand({
  name: 'forget',
  usage: 'forget NAME [--yes]',
  parameters: {
    name: positional(EXPERT_NAME, `name the training, as ${ownCommand('data')} lists it`),
    yes: flag('yes', 'do not ask'),
    dryRun: flag('dry-run', 'show what would be deleted, and delete nothing'),
  },
  confirmation: {
    option: 'yes',
    preview: { dryRun: true },
    question: ({ name }: Forgotten) => `Delete all of training ${name} in this home folder?`,
    declined: 'nothing was deleted',
  },
  async *run(node, { name, dryRun }): AsyncGenerator<never, Forgotten, void> {
    const { filesOfTraining } = await import('../owner/private-data.ts')
    const { root, training } = node.paths
    const files = await filesOfTraining(root, training, name)
    const published = node.accepted
      .manifests()
      .filter(({ manifest }) => manifest.publisher === node.membership.seat && manifest.expert.name === name)
    if (!dryRun) await node.trainings.forget(name)
    return { name, isDeleted: !dryRun, files, now: node.now(), isPublished: published.length > 0 }
  },
  words: ({ name, isDeleted, files, now, isPublished }) => [
    `${isDeleted ? 'deleted' : 'would delete'} training ${name}: ${files.length} files, ${size(sum(files))}`,
    ...lines(files, now),
    isPublished
      ? `kept: the published package of ${name}, which members use, and the account of what its text has spent of its privacy`
      : `${name} is not published, so ${isDeleted ? 'its expert is gone' : 'its expert would be gone'}; kept: the account of what its text has spent of its privacy`,
    'without its text, the node scores experts of others on public text and on the text of its other trainings only',
    'a solid-state disk may keep deleted content in blocks that it has not reused, and backups and snapshots keep theirs; only a disk that was encrypted from the start makes deletion certain',
  ],
})

function lines(files: readonly PrivateFile[], now: number): string[] {
  return table(
    files.map(({ path, holds, bytes, changedAt, mode }) => [
      `  ${path}: ${holds}`,
      size(bytes),
      age(now - changedAt),
      modeText(mode),
    ]),
  )
}

function sum(files: readonly PrivateFile[]): number {
  return files.reduce((total, { bytes }) => total + bytes, 0)
}

function age(seconds: number): string {
  const days = Math.floor(Math.max(0, seconds) / DAY_SECONDS)
  return days === 0 ? 'today' : `${days} day${days === 1 ? '' : 's'} old`
}

function modeText(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}

function size(bytes: number): string {
  if (bytes < 10_000) return `${bytes} B`
  return bytes < 10_000_000 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`
}
