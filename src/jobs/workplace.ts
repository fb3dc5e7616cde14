/** What jobs of a node work with, and how they read the experts that a request names. */
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Expert } from '../model/params.ts'
import type { OwnerWorkplace } from '../owner/owner-jobs.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { unpackExpert } from '../packaging/package.ts'
import type { BlobStore } from '../store/blob-store.ts'

export interface Workplace extends OwnerWorkplace {
  readonly blobs: BlobStore
}

/**
 * The expert of a package whose file is in the store.
 * @throws InputError `not-found`; VerificationError `wrong-digest` if the disk has damaged it.
 */
export async function readExpert(
  config: ModelConfig,
  blobs: BlobStore,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<Expert> {
  const [file] = manifest.files
  const bytes = await blobs.readAll(file.sha256, file.size, signal)
  return expertOfTensors(config, unpackExpert(bytes, manifest))
}
