/**
 * Engines that run TensorFlow.js operations one by one on a registered backend. The engine `cpu` is the reference that
 * tests compare other engines with. Imports all of TensorFlow.js, because its core alone registers no backend. Does not
 * know models or native libraries.
 */
import { dispose, env, keep, reshape, type Tensor, tensor, tidy, util, version_core } from '@tensorflow/tfjs'
import {
  type Compiled,
  checkLength,
  type Engine,
  type EngineName,
  resolveShape,
  type Signature,
  type Sizes,
  type TensorFunction,
  type TensorSpec,
  type Values,
} from './engine.ts'
import { onBackend } from './on-backend.ts'

/** TensorFlow.js in plain JavaScript: slow and available everywhere. */
export function cpuEngine(): Engine {
  // Suppresses a greeting on standard error that recommends another package; `flexmesh doctor` does that.
  env().set('PROD', true)
  return eagerEngine('cpu', 'cpu', { device: 'cpu', library: `TensorFlow.js ${version_core}` })
}

/** An engine on a registered TensorFlow.js backend. */
export function eagerEngine(
  name: EngineName,
  backend: string,
  about: Pick<Engine, 'device' | 'library' | 'threads'>,
): Engine {
  return {
    name,
    ...about,
    compile: async (fn, signature) => EagerFunction.create(fn, signature, backend),
  }
}

class EagerFunction implements Compiled {
  readonly #fn: TensorFunction
  readonly #signature: Signature
  readonly #backend: string
  readonly #frozen: Record<string, Tensor>
  /** Tensors of constant inputs by their array, so that weights are not copied to the device for every run. */
  readonly #constants = new Map<Values, Tensor>()

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
    const frozen = await onBackend(backend, () =>
      Object.fromEntries(
        Object.entries(signature.frozen ?? {}).map(([name, { data, shape }]) => [
          name,
          data instanceof Float32Array
            ? tensor(data.slice(), [...shape], 'float32')
            : tensor(Int32Array.from(data), [...shape], 'int32'),
        ]),
      ),
    )
    return new EagerFunction(fn, signature, backend, frozen)
  }

  async run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>> = {},
    sizes: Sizes = {},
  ): Promise<Record<string, Values>> {
    const results = await onBackend(this.#backend, () =>
      tidy(() => {
        const tensors: Record<string, Tensor> = { ...this.#frozen }
        for (const [name, spec] of Object.entries(this.#signature.inputs)) {
          tensors[name] = this.#input(name, inputs[name], spec, sizes)
        }
        return this.#fn(tensors)
      }),
    )
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
    dispose([...this.#constants.values()])
    this.#constants.clear()
  }

  #input(name: string, values: Values | undefined, spec: TensorSpec, sizes: Sizes): Tensor {
    const shape = resolveShape(spec.shape, sizes)
    const checked = checkLength(name, values, shape)
    const known = this.#constants.get(checked)
    if (known !== undefined) return util.arraysEqual(known.shape, shape) ? known : reshape(known, shape)
    const copy = tensor(checked.slice(), shape, spec.dtype ?? 'float32')
    if (spec.constant === true) this.#constants.set(checked, keep(copy))
    return copy
  }
}
