/** Stores packages of random experts of model M in a blob store, as `publish` does. */
import { tensorsOfExpert } from '../../../src/checkpoint/expert-tensors.ts'
import type { Digest } from '../../../src/lib/bytes.ts'
import type { FloatDtype } from '../../../src/lib/float-formats.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import type { ExpertDescription } from '../../../src/packaging/manifest.ts'
import { packExpert } from '../../../src/packaging/package.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { referenceExpert } from '../inference/reference-models.ts'
import { CONFIGS } from '../reference-configs.ts'

const SEED = 4
export const CONFIG: ModelConfig = CONFIGS.M

/** A stored file, and the part of its manifest that loading needs. */
export interface StoredExpert {
  readonly expert: ExpertDescription
  readonly sha256: Digest
  readonly size: number
}

export async function storeExperts(dir: string, count: number, dtype: FloatDtype): Promise<StoredExpert[]> {
  const blobs = await BlobStore.open(dir)
  const random = mulberry32(SEED)
  const stored: StoredExpert[] = []
  for (let index = 0; index < count; index++) {
    const tensors = tensorsOfExpert(CONFIG, referenceExpert(CONFIG, random))
    const { shape, pieces } = packExpert(tensors, dtype)
    const { ref } = await blobs.putPieces(pieces())
    stored.push({
      sha256: ref.sha256,
      size: ref.size,
      expert: {
        name: `expert-${index}`,
        dtype,
        ...shape,
        statisticsDocuments: 0,
        statisticsEpsilonMilli: 0,
      },
    })
  }
  return stored
}
