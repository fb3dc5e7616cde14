/** Composes stored packages with the functions that a restarting node uses. */

import type { AcceptedExpert } from '../../../src/acceptance/accepted-experts.ts'
import { expertOfTensors } from '../../../src/checkpoint/expert-tensors.ts'
import { type Composition, compose } from '../../../src/composition/compose.ts'
import { digestOf } from '../../../src/lib/bytes.ts'
import type { Params } from '../../../src/model/weights.ts'
import { openPackage } from '../../../src/packaging/package.ts'
import type { BlobStore } from '../../../src/store/blob-store.ts'
import { CONFIG, type StoredExpert } from './stored-experts.ts'

export async function loadComposition(
  blobs: BlobStore,
  publicModel: Params,
  stored: readonly StoredExpert[],
  topK: number,
): Promise<Composition> {
  const accepted: AcceptedExpert[] = []
  for (const file of stored) {
    const tensors = await openPackage(blobs.path(file.sha256), file)
    const expert = await expertOfTensors(CONFIG, tensors)
    const { name } = file.expert
    accepted.push({ id: file.sha256, name, institution: name, peerId: name, expert })
  }
  return compose(CONFIG, { digest: digestOf(Uint8Array.of(1)), weights: publicModel }, accepted, topK)
}
