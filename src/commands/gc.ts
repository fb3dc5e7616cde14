/** The command `gc`: removes files of the home folder that the node can do without. */
import { gigabytes } from '../lib/memory.ts'
import type { Garbage, GarbageKind } from '../node/garbage.ts'
import { folderBytes } from '../store/disk-quota.ts'
import { nodeCommand } from './command.ts'
import { flag } from './parameters.ts'
import { table } from './terminal.ts'

interface GcResult {
  readonly isRemoved: boolean
  readonly files: readonly Garbage[]
  readonly bytes: number
  /** Bytes that the home folder takes now. */
  readonly homeBytes: number
}

const KINDS: Readonly<Record<GarbageKind, string>> = {
  unfinished: 'left over by interrupted work',
  unreferenced: 'belongs to no package',
  checkpoint: 'checkpoint of a published training, which could only continue it',
  codes: 'coded weights that serve no more; coded again if needed',
}

export const GC = nodeCommand({
  name: 'gc',
  usage: 'gc [--dry-run] [--yes]',
  parameters: {
    dryRun: flag('dry-run', 'show what would be removed, and remove nothing'),
    yes: flag('yes', 'do not ask'),
  },
  confirmation: {
    option: 'yes',
    preview: { dryRun: true },
    question: ({ files }: GcResult) => (files.length === 0 ? undefined : 'Remove these files?'),
    declined: 'nothing was removed',
  },
  async *run(node, { dryRun }): AsyncGenerator<never, GcResult, void> {
    const { findGarbage, removeGarbage } = await import('../node/garbage.ts')
    const found = await findGarbage(node.parts, node.paths, node.now())
    const files = dryRun ? found : await removeGarbage(node.paths, found)
    const bytes = files.reduce((total, file) => total + file.bytes, 0)
    return { isRemoved: !dryRun, files, bytes, homeBytes: await folderBytes(node.paths.root) }
  },
  words: ({ isRemoved, files, bytes, homeBytes }) => [
    ...table(files.map((file) => [`  ${file.path}`, size(file.bytes), KINDS[file.kind]])),
    files.length === 0
      ? `nothing to remove; the home folder takes ${gigabytes(homeBytes)}`
      : `${isRemoved ? 'removed' : 'would remove'} ${files.length} file${files.length === 1 ? '' : 's'}, ${size(bytes)}; the home folder takes ${gigabytes(homeBytes)}`,
    ...(files.some(({ kind }) => kind === 'checkpoint')
      ? [
          'without its checkpoint, a training with the same name starts from the beginning; published experts stay',
        ]
      : []),
  ],
})

function size(bytes: number): string {
  if (bytes < 10_000) return `${bytes} B`
  return bytes < 10_000_000 ? `${Math.round(bytes / 1000)} kB` : gigabytes(bytes)
}
