/** Steps into the judgement of a package, in a node of this process. */
import { vi } from 'vitest'
import type { FlexMeshNode } from '../../src/node/node.ts'

/** Call `before` with the digest of the file whenever a node begins to judge the weights of a package. */
export function beforeJudging(node: FlexMeshNode, before: (sha256: string) => Promise<void>): void {
  const run = node.activities.run.bind(node.activities)
  vi.spyOn(node.activities, 'run').mockImplementation(async function* (name, request, signal) {
    if (name === 'judge') {
      const { opened } = request as Parameters<typeof run<'judge'>>[1]
      await before(opened.manifest.files[0].sha256)
    }
    return yield* run(name, request, signal)
  })
}
