/** Packages of random experts of model M in a blob store, as `publish` leaves them. */
import type { Digest } from '../../../src/lib/bytes.ts'
import type { ModelConfig } from '../../../src/model/config.ts'
import { type Expert, expertFfn, FFN_PROJECTIONS } from '../../../src/model/params.ts'
import { mulberry32 } from '../../../src/model/sampling.ts'
import type { Described, Float32Tensor } from '../../../src/packaging/package.ts'
import { packExpert } from '../../../src/packaging/package.ts'
import type { FloatDtype } from '../../../src/packaging/safetensors.ts'
import { ffnTensorName, routerTensorName } from '../../../src/packaging/tensor-names.ts'
import { BlobStore } from '../../../src/store/blob-store.ts'
import { CONFIGS, referenceExpert } from '../inference/reference-models.ts'

const SEED = 4
export const CONFIG: ModelConfig = CONFIGS.M

/** What a manifest would say of a stored file. */
export interface StoredExpert extends Described {
  readonly sha256: Digest
  readonly size: number
}

export async function storeExperts(dir: string, count: number, dtype: FloatDtype): Promise<StoredExpert[]> {
  const blobs = await BlobStore.open(dir)
  const random = mulberry32(SEED)
  const stored: StoredExpert[] = []
  for (let index = 0; index < count; index++) {
    const packed = packExpert(tensorsOf(referenceExpert(CONFIG, random)), dtype)
    const sha256 = await blobs.put(packed.parts)
    stored.push({
      sha256,
      size: packed.file.size,
      expert: { name: `expert-${index}`, dtype, ...packed.shape },
    })
  }
  return stored
}

function tensorsOf(expert: Expert): Map<string, Float32Tensor> {
  const tensors = new Map<string, Float32Tensor>()
  for (let layer = 0; layer < CONFIG.numHiddenLayers; layer++) {
    for (const projection of FFN_PROJECTIONS) {
      const name = projection === 'gate_proj' ? 'gate' : projection === 'up_proj' ? 'up' : 'down'
      tensors.set(ffnTensorName(layer, name), expertFfn(expert, layer, projection))
    }
    const data = expert.routerRows[layer] as Float32Array
    tensors.set(routerTensorName(layer), { shape: [1, CONFIG.hiddenSize], data })
  }
  return tensors
}
