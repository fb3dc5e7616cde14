/**
 * Engines that run TensorFlow.js operations one by one: `cpu`, the oracle of the tests, and
 * `tensorflow`, the native library where an institution has installed it. Knows no model.
 */
import { createRequire } from 'node:module'
import {
  type DataType,
  dispose,
  setBackend,
  type Tensor,
  tensor,
  engine as tfEngine,
  tidy,
  version_core,
} from '@tensorflow/tfjs'
import { InputError } from '../lib/errors.ts'
import {
  type Compiled,
  checkLength,
  type Engine,
  type EngineName,
  resolveShape,
  type Signature,
  type Sizes,
  type TensorFunction,
  type Values,
} from './engine.ts'

export function cpuEngine(): Engine {
  return eagerEngine('cpu', 'cpu', `TensorFlow.js ${version_core}, cpu`)
}

const NATIVE_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const

/**
 * The native TensorFlow binding.
 * @throws InputError `engine-missing`, naming the next command, when neither package loads.
 */
export function tensorflowEngine(): Engine {
  const require = createRequire(import.meta.url)
  for (const name of NATIVE_PACKAGES) {
    try {
      const native = require(name) as { version: Readonly<Record<string, string>> }
      return eagerEngine('tensorflow', 'tensorflow', `${name} ${native.version['tfjs-node'] ?? ''}`.trim())
    } catch {
      // Not installed, or installed without its library: the next one may be there.
    }
  }
  throw new InputError(
    'engine-missing',
    'engine tensorflow: @tensorflow/tfjs-node-gpu has no native library here; run "npm rebuild @tensorflow/tfjs-node-gpu" on a machine that reaches its download host, or use --engine onnx',
  )
}

/** Any registered TensorFlow.js backend. */
export function eagerEngine(name: EngineName, backend: string, description: string): Engine {
  return {
    name,
    description,
    compile: async (fn, signature) => EagerFunction.create(fn, signature, backend),
  }
}

class EagerFunction implements Compiled {
  readonly #fn: TensorFunction
  readonly #signature: Signature
  readonly #backend: string
  readonly #frozen: Record<string, Tensor>

  private constructor(
    fn: TensorFunction,
    signature: Signature,
    backend: string,
    frozen: Record<string, Tensor>,
  ) {
    this.#fn = fn
    this.#signature = signature
    this.#backend = backend
    this.#frozen = frozen
  }

  static async create(fn: TensorFunction, signature: Signature, backend: string): Promise<EagerFunction> {
    await activate(backend)
    const frozen: Record<string, Tensor> = {}
    for (const [name, { data, shape }] of Object.entries(signature.frozen ?? {})) {
      frozen[name] =
        data instanceof Float32Array
          ? tensor(data.slice(), [...shape], 'float32')
          : tensor(Int32Array.from(data), [...shape], 'int32')
    }
    return new EagerFunction(fn, signature, backend, frozen)
  }

  async run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>> = {},
    sizes: Sizes = {},
  ): Promise<Record<string, Values>> {
    await activate(this.#backend)
    const results = tidy(() => {
      const tensors: Record<string, Tensor> = { ...this.#frozen }
      for (const [name, spec] of Object.entries(this.#signature.inputs)) {
        const dtype: DataType = spec.dtype ?? 'float32'
        const shape = resolveShape(spec.shape, sizes)
        tensors[name] = tensor(checkLength(name, inputs[name], shape).slice(), shape, dtype)
      }
      return this.#fn(tensors)
    })
    const values: Record<string, Values> = {}
    for (const [name, result] of Object.entries(results)) {
      const data = (await result.data()) as Values
      const target = into[name]
      target?.set(data)
      values[name] = target ?? data
    }
    dispose(results)
    return values
  }

  async dispose(): Promise<void> {
    dispose(this.#frozen)
  }
}

async function activate(backend: string): Promise<void> {
  if (tfEngine().backendName !== backend) await setBackend(backend)
}
