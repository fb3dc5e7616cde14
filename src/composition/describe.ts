/** What a composition is made of, for the file beside exported weights. */
import type { AcceptedExpert } from '../acceptance/accepted-experts.ts'
import type { Digest } from '../lib/bytes.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { compositionDigest } from './compose.ts'
import type { CompositionFile } from './composition-file.ts'

/** What an export says about its consortium, and where it finds what owners signed. */
export interface CompositionSource {
  readonly consortium: Digest
  readonly charter: {
    readonly name: string
    readonly publicModel: { readonly name: string; readonly digest: Digest }
  }
  /** @throws InputError `not-found` for a package that this node has no manifest of. */
  manifestOf(id: Digest): Promise<Manifest>
}

/** @param experts in the order of the mixture. */
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
        const { license, expiresAt } = await source.manifestOf(id)
        return { id, name, institution, license, expiresAt }
      }),
    ),
  }
}
