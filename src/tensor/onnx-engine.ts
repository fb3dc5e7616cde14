/**
 * The default engine: traces a function, backward pass included, into one ONNX graph and lets ONNX
 * Runtime compile and run it on the CPU. Knows no model.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { type DataType, getBackend, setBackend, type Tensor } from '@tensorflow/tfjs'
import * as ort from 'onnxruntime-node'
import './kernels-elementwise.ts'
import './kernels-reduce.ts'
import './kernels-shape.ts'
import {
  type Compiled,
  checkInputs,
  type Engine,
  type Signature,
  type TensorFunction,
  type TensorSpec,
  type Values,
} from './engine.ts'
import { encodeModel, type Graph } from './onnx-encode.ts'
import { TRACE_BACKEND, traceBackend } from './trace-backend.ts'

export interface OnnxEngineInit {
  /** Threads inside one operator; default: all. */
  readonly threads?: number
}

export function onnxEngine(init: OnnxEngineInit = {}): Engine {
  const threads = init.threads ?? availableParallelism()
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string }
  return {
    name: 'onnx',
    description: `ONNX Runtime ${version}, CPU, ${threads} threads`,
    compile: async (fn, signature, { lean = false } = {}) => {
      const graph = await traceGraph(fn, signature, lean)
      const session = await ort.InferenceSession.create(encodeModel(graph), {
        // A planned buffer would lie beside the blocks that the first run took.
        enableMemPattern: !lean,
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        logSeverityLevel: 3,
      })
      return new OnnxFunction(session, lean ? signature : { inputs: signature.inputs }, graph)
    },
  }
}

/**
 * Run `fn` once under the trace backend; the result holds every operation that an output needs. Frozen
 * tensors become initializers, or inputs where they are fed.
 */
export async function traceGraph(
  fn: TensorFunction,
  signature: Signature,
  feedFrozen = false,
): Promise<Graph> {
  const previous = getBackend()
  await setBackend(TRACE_BACKEND)
  try {
    return traceBackend.record((builder) => {
      const tensors: Record<string, Tensor> = {}
      for (const [name, spec] of Object.entries(signature.inputs)) {
        const dtype: DataType = spec.dtype ?? 'float32'
        builder.inputs.push({ name, type: spec.dtype ?? 'float32', shape: spec.shape })
        tensors[name] = traceBackend.placeholder(name, spec.shape, dtype)
      }
      for (const [name, frozen] of Object.entries(signature.frozen ?? {})) {
        if (feedFrozen) {
          builder.inputs.push({ name, type: 'float32', shape: frozen.shape })
        } else {
          const { buffer, byteOffset, byteLength } = frozen.data
          const bytes = new Uint8Array(buffer, byteOffset, byteLength)
          builder.initializers.push({ name, type: 'float32', shape: frozen.shape, bytes })
        }
        tensors[name] = traceBackend.placeholder(name, frozen.shape, 'float32')
      }
      for (const [name, tensor] of Object.entries(fn(tensors))) traceBackend.output(name, tensor)
    })
  } finally {
    if (previous !== '' && previous !== undefined) await setBackend(previous)
  }
}

class OnnxFunction implements Compiled {
  readonly #outputs: Readonly<Record<string, TensorSpec>>
  readonly #session: ort.InferenceSession
  /** Without frozen tensors where the session holds them. */
  readonly #signature: Signature

  constructor(session: ort.InferenceSession, signature: Signature, graph: Graph) {
    this.#session = session
    this.#signature = signature
    this.#outputs = Object.fromEntries(
      graph.outputs.map(({ name, shape, type }) => [
        name,
        { shape, dtype: type === 'int32' ? 'int32' : 'float32' } as TensorSpec,
      ]),
    )
  }

  async run(
    inputs: Readonly<Record<string, Values>>,
    into: Readonly<Record<string, Values>> = {},
  ): Promise<Record<string, Values>> {
    checkInputs(this.#signature, inputs)
    const feeds: Record<string, ort.Tensor> = {}
    for (const [name, spec] of Object.entries(this.#signature.inputs)) {
      feeds[name] = wrap(inputs[name] as Values, spec)
    }
    for (const [name, frozen] of Object.entries(this.#signature.frozen ?? {})) {
      feeds[name] = wrap(frozen.data, frozen)
    }
    const fetches: Record<string, ort.Tensor | null> = {}
    for (const [name, spec] of Object.entries(this.#outputs)) {
      const target = into[name]
      fetches[name] = target === undefined ? null : wrap(target, spec)
    }
    const results = await this.#session.run(feeds, fetches)
    const values: Record<string, Values> = {}
    for (const name of Object.keys(this.#outputs)) {
      values[name] = into[name] ?? ((results[name] as ort.Tensor).data as Values)
    }
    return values
  }

  async dispose(): Promise<void> {
    await this.#session.release()
  }
}

/** A tensor over the caller's memory: nothing is copied. */
function wrap(values: Values, spec: TensorSpec): ort.Tensor {
  return new ort.Tensor(spec.dtype ?? 'float32', values as never, spec.shape as number[])
}
