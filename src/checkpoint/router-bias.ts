/**
 * `router_bias.safetensors`: the router biases of a mixture, kept in a file of their own because a FlexOlmo
 * checkpoint has no tensor for them. One F32 tensor `model.layers.{l}.mlp.expert_bias` [E] per layer; entry 0, of the
 * public expert, is 0. Does not know who owns an expert.
 */
import { join } from 'node:path'
import { InputError } from '../lib/errors.ts'
import { mapDiskErrors, pathExists, readFileBounded } from '../lib/files.ts'
import { biasName } from '../lib/tensor-names.ts'
import { fromFloat32, readSafetensors, toFloat32, writeSafetensors } from './safetensors.ts'

export const ROUTER_BIAS_FILE = 'router_bias.safetensors'
const MAX_BYTES = 2 ** 20

/** @param biases one array [E] per layer. */
export function writeRouterBias(biases: readonly Float32Array[]): Uint8Array {
  const entries = biases.map((bias, layer) => ({
    name: biasName(layer),
    dtype: 'F32' as const,
    shape: [bias.length],
    data: fromFloat32(bias, 'F32'),
  }))
  return new Uint8Array(Buffer.concat(writeSafetensors(entries)))
}

/**
 * Biases [E] of each layer; undefined if the folder has no such file.
 * @throws InputError `not-a-model` naming the file and the tensor; FormatError.
 */
export async function readRouterBias(
  dir: string,
  layers: number,
  experts: number,
): Promise<Float32Array[] | undefined> {
  const path = join(dir, ROUTER_BIAS_FILE)
  if (!(await mapDiskErrors(path, () => pathExists(path)))) return undefined
  const { tensors } = readSafetensors(await readFileBounded(path, MAX_BYTES))
  return Array.from({ length: layers }, (_, layer) => {
    const name = biasName(layer)
    const tensor = tensors.get(name)
    if (tensor?.dtype !== 'F32' || tensor.shape.join() !== String(experts)) {
      throw new InputError('not-a-model', `${path}: expected tensor ${name}, F32 [${experts}]`)
    }
    const bias = toFloat32(tensor)
    if (bias[0] !== 0 || bias.some((b) => !Number.isFinite(b))) {
      throw new InputError(
        'not-a-model',
        `${path}: tensor ${name} must be finite, and 0 for expert 0, the public one`,
      )
    }
    return bias
  })
}
