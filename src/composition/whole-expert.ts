/**
 * The experts of an export, read from their package files and verified while they are read. Low-rank experts become
 * whole weights, since no export format can hold factors. Does not know export formats.
 */
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { PublicModel } from '../checkpoint/public-model.ts'
import { materialised } from '../model/merged-weight.ts'
import type { Expert } from '../model/params.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { openPackage } from '../packaging/package.ts'
import type { BlobStore } from '../store/blob-store.ts'
import type { CompositionSource } from './describe.ts'
import { VerifiedFile } from './verified-file.ts'

/** The parts of a node that an export reads. */
export interface Exporter extends CompositionSource {
  readonly publicModel: PublicModel
  readonly blobs: BlobStore
}

/**
 * The expert of an accepted package with whole weights. Its FFN is read, and computed if it has low rank, when it is
 * used; every byte is then compared with the manifest's digests.
 * @throws InputError `not-found`; VerificationError `wrong-digest` for a file that has changed on the disk.
 */
export async function wholeExpert(
  { publicModel, blobs }: Exporter,
  manifest: Manifest,
  signal?: AbortSignal,
): Promise<Expert> {
  const [ref] = manifest.files
  const file = await VerifiedFile.open(blobs, ref, signal)
  const expert = await expertOfTensors(publicModel.config, await openPackage(file, manifest), signal)
  return materialised(expert, publicModel.weights)
}
