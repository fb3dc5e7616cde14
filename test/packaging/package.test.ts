import { describe, expect, it } from 'vitest'
import {
  fromFloat32,
  readSafetensors,
  type TensorEntry,
  toFloat32,
  writeSafetensors,
} from '../../src/checkpoint/safetensors.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { concatBytes, digestOf } from '../../src/lib/bytes.ts'
import { FLOAT_BYTES, type FloatDtype } from '../../src/lib/float-formats.ts'
import { dtypeOf, readBytes, readValues, type WeightMap, wholeValues } from '../../src/model/weights.ts'
import { packExpert } from '../../src/packaging/package.ts'
import { hashPieces } from '../../src/store/write-hashed.ts'
import { packTensors, unpackExpert } from '../support/package-bytes.ts'
import { codeOf, codeOfAsync, TINY_EXPERT, tinyManifest, tinyTensors } from '../support/packages.ts'

const anna = createIdentity(new Uint8Array(32).fill(1))

/** The file of an expert, with its reference and its shape. */
async function packed(tensors: WeightMap, dtype: FloatDtype) {
  const { shape, bytes: size, pieces } = packExpert(tensors, dtype)
  const copies: Uint8Array[] = []
  for await (const piece of pieces()) copies.push(piece.slice())
  const { ref: file } = await hashPieces(pieces())
  expect(size).toBe(file.size)
  return { bytes: concatBytes(...copies), file, shape }
}

describe('a package', () => {
  it.each(['F32', 'BF16', 'F16'] as const)(
    'is unpacked from %s with the values that it was rounded to',
    async (dtype) => {
      const tensors = tinyTensors()
      const { bytes, file, shape } = await packed(tensors, dtype)
      expect(shape).toEqual(TINY_EXPERT)
      expect([file.size, file.sha256]).toEqual([bytes.length, digestOf(bytes)])
      const unpacked = unpackExpert(bytes, tinyManifest(anna.peerId, {}, dtype))
      expect([...unpacked.keys()].sort()).toEqual([...tensors.keys()].sort())
      for (const [name, { data, shape: dimensions }] of tensors) {
        const stored = name.includes('experts.1') ? dtype : 'F32'
        const expected = toFloat32({ dtype: stored, data: fromFloat32(data, stored) })
        expect(unpacked.get(name)).toEqual({ shape: dimensions, dtype: stored, data: expected })
      }
    },
  )

  it.each(['F32', 'BF16', 'F16'] as const)(
    'shows in %s the values and bytes that its file will hold',
    async (dtype) => {
      const { tensors } = packExpert(tinyTensors(), dtype)
      const { bytes } = await packed(tinyTensors(), dtype)
      const held = readSafetensors(bytes).tensors
      expect([...tensors.keys()].sort()).toEqual([...held.keys()].sort())
      for (const [name, weight] of tensors) {
        const { data, shape, dtype: stored } = held.get(name) as TensorEntry
        expect([weight.shape, dtypeOf(weight)]).toEqual([shape, stored])
        const values = toFloat32({ dtype: stored, data })
        const last = new Float32Array(1)
        await readValues(weight, last, values.length - 1)
        expect([await wholeValues(weight), last[0]]).toEqual([values, values.at(-1)])
        const tail = new Uint8Array(FLOAT_BYTES[dtypeOf(weight)])
        await readBytes(weight, tail, data.length - tail.length)
        expect(tail).toEqual(data.slice(-tail.length))
      }
    },
  )

  it('has equal bytes for equal tensors in any order', async () => {
    const reversed = new Map([...tinyTensors()].reverse())
    expect((await packed(reversed, 'BF16')).file).toEqual((await packed(tinyTensors(), 'BF16')).file)
  })

  const file = (change: (tensors: ReturnType<typeof readSafetensors>['tensors']) => void): Uint8Array => {
    const { tensors, metadata } = readSafetensors(concatBytes(...packTensors(tinyTensors(), 'BF16').parts))
    change(tensors)
    return concatBytes(...writeSafetensors(tensors.values(), metadata))
  }
  const ffn = 'model.layers.1.mlp.experts.1.up_proj.weight'
  const router = 'model.layers.0.mlp.gate.weight'

  it('is refused with tensor-name for every name that an expert does not have', () => {
    const foreign = [
      'model.embed_tokens.weight',
      'model.norm.weight',
      'lm_head.weight',
      'model.layers.0.self_attn.q_proj.weight',
      'model.layers.0.self_attn.k_norm.weight',
      'model.layers.0.post_attention_layernorm.weight',
      'model.layers.0.mlp.experts.0.up_proj.weight',
      'model.layers.0.mlp.experts.2.up_proj.weight',
      'model.layers.2.mlp.experts.1.up_proj.weight',
      'model.layers.00.mlp.experts.1.up_proj.weight',
      'model.layers.0.mlp.experts.1.up_proj.weight ',
      '__proto__',
      '',
    ]
    for (const name of foreign) {
      const bytes = file((tensors) =>
        tensors.set(name, { name, dtype: 'F32', shape: [0], data: new Uint8Array(0) }),
      )
      expect([name, codeOf(() => unpackExpert(bytes, tinyManifest(anna.peerId)))]).toEqual([
        name,
        'tensor-name',
      ])
    }
  })

  it('is refused if a tensor is missing or has another shape or dtype', () => {
    const manifest = tinyManifest(anna.peerId)
    const missing = file((tensors) => tensors.delete(router))
    expect(codeOf(() => unpackExpert(missing, manifest))).toBe('tensor-name')
    for (const shape of [[4, 6], [24], [6, 4, 1], [1, 6, 4], [6, 2, 2]]) {
      const bytes = file((tensors) =>
        tensors.set(ffn, { name: ffn, dtype: 'BF16', shape, data: new Uint8Array(48) }),
      )
      expect(codeOf(() => unpackExpert(bytes, manifest))).toBe('tensor-shape')
    }
    const half = file((tensors) =>
      tensors.set(ffn, { name: ffn, dtype: 'F16', shape: [6, 4], data: new Uint8Array(48) }),
    )
    expect(codeOf(() => unpackExpert(half, manifest))).toBe('tensor-dtype')
    const rounded = file((tensors) =>
      tensors.set(router, { name: router, dtype: 'BF16', shape: [1, 4], data: new Uint8Array(8) }),
    )
    expect(codeOf(() => unpackExpert(rounded, manifest))).toBe('tensor-dtype')
  })

  it('is not packed from tensors that are not those of an expert', async () => {
    const pack = (change: (tensors: ReturnType<typeof tinyTensors>) => void) => async () => {
      const tensors = tinyTensors()
      change(tensors)
      return packed(tensors, 'BF16')
    }
    expect(await codeOfAsync(pack((tensors) => tensors.clear()))).toBe('tensor-name')
    expect(await codeOfAsync(pack((tensors) => tensors.delete('model.layers.1.mlp.expert_bias')))).toBe(
      'tensor-name',
    )
    expect(
      await codeOfAsync(pack((tensors) => tensors.set('extra', { shape: [1], data: new Float32Array(1) }))),
    ).toBe('tensor-name')
    expect(
      await codeOfAsync(pack((tensors) => tensors.set(router, { shape: [4], data: new Float32Array(4) }))),
    ).toBe('tensor-shape')
    expect(
      await codeOfAsync(pack((tensors) => tensors.set(router, { shape: [1, 4], data: new Float32Array(3) }))),
    ).toBe('tensor-shape')
  })
})
