/** How exports with withdrawn experts are reported: the node cannot delete what it wrote into another folder. */
import type { Digest } from '../lib/bytes.ts'
import type { FlexMeshNode } from '../node/node.ts'

export interface WithdrawnExport {
  readonly directory: string
  readonly composition: Digest
  readonly withdrawn: readonly { readonly id: Digest; readonly name: string; readonly institution: string }[]
}

/** The exports of this node with experts that were withdrawn since, newest first. */
export async function withdrawnExports(node: FlexMeshNode): Promise<WithdrawnExport[]> {
  const exports = await node.parts.exports.list()
  return exports
    .filter(({ withdrawn }) => withdrawn.length > 0)
    .map(({ directory, composition, withdrawn }) => ({
      directory,
      composition,
      withdrawn: withdrawn.map(({ id, name, institution }) => ({ id, name, institution })),
    }))
}

export function withdrawnExportLine({ directory, withdrawn }: WithdrawnExport): string {
  const experts = withdrawn.map(({ institution, name }) => `${institution}/${name}`).join(', ')
  return `the export ${directory} contains withdrawn experts: ${experts}; stop serving it and delete it`
}
