/**
 * Implements protocols/expert-package (v1.0.0), section "Tensors": packs an expert's tensors into one safetensors
 * file, and opens such files. Checks structure only; the values are checked by acceptance.
 */

import { DiskFile, FileWeight, type PartFile, readLayout } from '../checkpoint/file-weight.ts'
import { roundedWeight } from '../checkpoint/rounded-weight.ts'
import type { SafetensorsLayout } from '../checkpoint/safetensors.ts'
import type { Dtype } from '../checkpoint/safetensors-header.ts'
import { type TensorFileOptions, tensorFileBytes, tensorFilePieces } from '../checkpoint/tensor-file.ts'
import { PolicyError } from '../lib/errors.ts'
import type { FloatDtype } from '../lib/float-formats.ts'
import { biasName, expertName, factorName, PAIR_EXPERT, STATISTICS_TOKENS } from '../lib/tensor-names.ts'
import { countOf, requireWeight, type Weight, type WeightMap } from '../model/weights.ts'
import type { ExpertDescription } from './manifest.ts'
import { type ExpertShape, expertTensorNames, type TensorKind } from './tensor-names.ts'

/** An expert's file before it is written. */
export interface PackedExpert {
  /** For the manifest. */
  readonly shape: ExpertShape
  /** Size of the file. */
  readonly bytes: number
  /** The tensors with the values that a receiver reads from the file. */
  readonly tensors: WeightMap
  /**
   * Content of the file. A piece is used completely before the next one is asked for, and never changed.
   * @throws as `WeightSource.read`.
   */
  pieces(options?: Pick<TensorFileOptions, 'signal' | 'onProgress'>): AsyncIterable<Uint8Array>
}

/**
 * An expert's tensors as one file, with FFN tensors rounded to `dtype`. Equal tensors give equal bytes. Weights are read
 * when the file is written.
 * @throws PolicyError `tensor-name`, `tensor-shape`.
 */
export function packExpert(tensors: WeightMap, dtype: FloatDtype): PackedExpert {
  const shape = shapeOf(tensors)
  const expected = expertTensorNames(shape)
  checkNames(expected, tensors)
  const named = Array.from(expected, ([name, { shape: dimensions, kind }]) => {
    const weight = requireWeight(tensors, name)
    checkShape(name, dimensions, weight.shape)
    checkFilled(name, weight)
    return { name, weight, dtype: dtypeOf(kind, dtype) }
  })
  return {
    shape,
    bytes: tensorFileBytes(named),
    tensors: new Map(named.map((tensor) => [tensor.name, roundedWeight(tensor.weight, tensor.dtype)])),
    pieces: (options) => tensorFilePieces(named, options),
  }
}

/** @throws PolicyError `tensor-shape` if values in memory are more or fewer than the shape demands. */
function checkFilled(name: string, weight: Weight): void {
  if (!('data' in weight) || weight.data.length === countOf(weight)) return
  throw new PolicyError(
    'tensor-shape',
    `${name}: ${weight.data.length} values do not fill [${weight.shape.join(', ')}]`,
  )
}

/**
 * Shape according to the tensors of the first layer; the caller checks all others against it.
 * @throws PolicyError `tensor-name`, `tensor-shape`.
 */
export function shapeOf(tensors: WeightMap): ExpertShape {
  const isLowRank = tensors.has(factorName(0, PAIR_EXPERT, 'gate_proj', 'A'))
  const gate = (layer: number): string =>
    isLowRank ? factorName(layer, PAIR_EXPERT, 'gate_proj', 'A') : expertName(layer, PAIR_EXPERT, 'gate_proj')
  const [first, hidden] = twoDimensions(tensors, gate(0))
  let layers = 1
  while (tensors.has(gate(layers))) layers++
  const bias = tensors.has(biasName(0))
  const statisticsTokens = tensors.get(STATISTICS_TOKENS)?.shape[0] ?? 0
  const shape = { layers, hidden_size: hidden, bias, statisticsTokens }
  if (!isLowRank) return { ...shape, intermediate_size: first }
  const [intermediate] = twoDimensions(tensors, factorName(0, PAIR_EXPERT, 'gate_proj', 'B'))
  return { ...shape, intermediate_size: intermediate, rank: first }
}

function twoDimensions(tensors: WeightMap, name: string): [number, number] {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw new PolicyError('tensor-name', `package: tensor "${name}" is missing`)
  const [rows, width, ...rest] = tensor.shape
  if (rows === undefined || width === undefined || rest.length > 0) {
    throw new PolicyError('tensor-shape', `${name}: expected two dimensions`)
  }
  return [rows, width]
}

/**
 * The tensors of a package file as sources. Only the header is read.
 * @throws FormatError `bad-safetensors`, `truncated`, `too-large`; PolicyError `tensor-name`, `tensor-dtype`,
 * `tensor-shape`; InputError `not-found`, `io`.
 */
export async function openPackage(file: string | PartFile, manifest: Described): Promise<WeightMap> {
  const source = typeof file === 'string' ? new DiskFile(file) : file
  const layout = await readLayout(source)
  checkExpertLayout(layout, manifest)
  return sourcesOf(source, layout)
}

/**
 * `openPackage` for a file without a manifest: dtype, bias, rank and statistics are read from the file.
 * @throws as `openPackage`.
 */
export async function openExpertFile(
  path: string,
  shape: Omit<ExpertShape, 'bias' | 'rank' | 'statisticsTokens'>,
): Promise<WeightMap> {
  const file = new DiskFile(path)
  const layout = await readLayout(file)
  const { tensors } = layout
  const factor = tensors.get(factorName(0, PAIR_EXPERT, 'gate_proj', 'A'))
  const { dtype } = factor ?? tensors.get(expertName(0, PAIR_EXPERT, 'gate_proj')) ?? {}
  if (dtype !== 'F32' && dtype !== 'BF16' && dtype !== 'F16') {
    throw new PolicyError(
      'tensor-dtype',
      `${expertName(0, PAIR_EXPERT, 'gate_proj')}: expected F32, BF16 or F16, got ${dtype}`,
    )
  }
  const bias = tensors.has(biasName(0))
  const rank = factor === undefined ? {} : { rank: factor.shape[0] ?? 0 }
  const statisticsTokens = tensors.get(STATISTICS_TOKENS)?.shape[0] ?? 0
  checkExpertLayout(layout, { expert: { ...shape, bias, ...rank, statisticsTokens, dtype } })
  return sourcesOf(file, layout)
}

/** Tensors whose dtypes were checked. */
function sourcesOf(file: PartFile, { tensors }: SafetensorsLayout): WeightMap {
  return new Map(
    Array.from(tensors, ([name, tensor]) => [
      name,
      new FileWeight(file, { ...tensor, dtype: tensor.dtype as FloatDtype }),
    ]),
  )
}

/** The part of a manifest that determines the structure of the file. */
export interface Described {
  readonly expert: ExpertShape & Pick<ExpertDescription, 'dtype'>
}

/**
 * Check that a file holds exactly the manifest's tensors, with their names, dtypes and shapes.
 * @throws PolicyError `tensor-name`, `tensor-dtype`, `tensor-shape`.
 */
export function checkExpertLayout(layout: SafetensorsLayout, { expert }: Described): void {
  const expected = expertTensorNames(expert)
  checkNames(expected, layout.tensors)
  for (const [name, { shape, kind }] of expected) {
    const tensor = layout.tensors.get(name) as { dtype: Dtype; shape: readonly number[] }
    const dtype = dtypeOf(kind, expert.dtype)
    if (tensor.dtype !== dtype) {
      throw new PolicyError('tensor-dtype', `${name}: expected ${dtype}, got ${tensor.dtype}`, {
        tensor: name,
      })
    }
    checkShape(name, shape, tensor.shape)
  }
}

/**
 * Type of a tensor in the file. Routing tensors are small, and rounding them would change the routing of every token.
 */
function dtypeOf(kind: TensorKind, dtype: FloatDtype): FloatDtype {
  return kind === 'ffn' ? dtype : 'F32'
}

function checkNames(expected: ReadonlyMap<string, unknown>, got: ReadonlyMap<string, unknown>): void {
  for (const name of got.keys()) {
    if (!expected.has(name)) {
      const shown = name.slice(0, 120)
      throw new PolicyError('tensor-name', `package: tensor "${shown}" is not part of an expert`, {
        tensor: shown,
      })
    }
  }
  for (const name of expected.keys()) {
    if (!got.has(name))
      throw new PolicyError('tensor-name', `package: tensor "${name}" is missing`, { tensor: name })
  }
}

function checkShape(name: string, expected: readonly number[], got: readonly number[]): void {
  if (expected.length !== got.length || expected.some((dimension, axis) => dimension !== got[axis])) {
    const shown = got.slice(0, 8).join(', ')
    throw new PolicyError('tensor-shape', `${name}: expected [${expected.join(', ')}], got [${shown}]`, {
      tensor: name,
    })
  }
}
