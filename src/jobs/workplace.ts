/** What jobs of a node work with, and how they read the experts that a request names. */
import { expertOfTensors } from '../checkpoint/expert-tensors.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Expert } from '../model/params.ts'
import type { OwnerWorkplace } from '../owner/owner-jobs.ts'
import type { Manifest } from '../packaging/manifest.ts'
import { openPackage } from '../packaging/package.ts'
import type { BlobStore } from '../store/blob-store.ts'

export interface Workplace extends OwnerWorkplace {
  readonly blobs: BlobStore
}

/**
 * The expert of a package whose file is in the store, with its FFN as sources.
 * @throws InputError `not-found`; FormatError or PolicyError if the disk has damaged its header.
 */
export async function readExpert(
  config: ModelConfig,
  blobs: BlobStore,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<Expert> {
  const [file] = manifest.files
  const tensors = await openPackage(blobs.path(file.sha256), manifest)
  return expertOfTensors(config, tensors, signal)
}
