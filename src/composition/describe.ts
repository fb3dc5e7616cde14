/** Describes a composition for the composition file of an export. Knows nothing about weights. */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { compositionDigest } from './compose.ts'
import type { CompositionFile } from './composition-file.ts'

/** Where an export finds its consortium and the manifests that owners signed. */
export interface CompositionSource {
  readonly consortium: Digest
  readonly charter: {
    readonly name: string
    readonly publicModel: { readonly name: string; readonly digest: Digest }
  }
  /** @throws InputError `not-found` if this node has no manifest of the package. */
  manifestOf(id: Digest): Promise<Manifest>
}

/** @param experts in the order of the mixture. @throws InputError `not-found` for an expert without a manifest. */
export async function describeComposition(
  source: CompositionSource,
  experts: readonly AcceptedExpert[],
  topK: number,
): Promise<CompositionFile> {
  const publicModel = source.charter.publicModel.digest
  const ids = experts.map(({ id }) => id)
  return {
    consortium: source.consortium,
    publicModel,
    composition: compositionDigest(publicModel, ids, topK),
    topK,
    experts: await Promise.all(
      experts.map(async ({ id, name, institution }) => {
        const { license, expiresAt, privacy } = await source.manifestOf(id)
        const stated = privacy === undefined ? {} : { privacy }
        return { id, name, institution, license, expiresAt, ...stated }
      }),
    ),
  }
}
