/** Chooses the tensor engine by name and device. Does not know models. */
import { InputError } from '../lib/errors.ts'
import type { Device, Engine } from './engine.ts'
import { onnxEngine } from './onnx-engine.ts'

export interface EngineChoice {
  /** `onnx` (default), `tensorflow` or `cpu`. */
  readonly name?: string
  /** `cpu` or `cuda`; default: `cpu`, but for `tensorflow` a GPU if this machine has one. */
  readonly device?: string
  /** Number of CPU threads; 0 or undefined: one per CPU. */
  readonly threads?: number
}

const DEVICES: readonly Device[] = ['cpu', 'cuda']

/** @throws InputError `usage` for an unknown name or device, `engine-missing` if it cannot run here. */
export async function selectEngine({ name = 'onnx', device, threads }: EngineChoice = {}): Promise<Engine> {
  const known = DEVICES.find((candidate) => candidate === device)
  if (device !== undefined && known === undefined)
    throw new InputError('usage', `--device: expected ${DEVICES.join(' or ')}, got "${device}"`)
  const init = {
    ...(threads === undefined || threads === 0 ? {} : { threads }),
    ...(known === undefined ? {} : { device: known }),
  }
  switch (name) {
    case 'onnx': {
      const engine = onnxEngine(init)
      // Runs once now, so that libraries that do not load are reported before any text is read.
      if (engine.device === 'cuda') {
        const { measureGflops } = await import('./measure.ts')
        await measureGflops(engine, 0)
      }
      return engine
    }
    case 'tensorflow': {
      const { tensorflowEngine } = await import('./tensorflow-engine.ts')
      return tensorflowEngine(init)
    }
    case 'cpu': {
      if (known === 'cuda')
        throw new InputError(
          'usage',
          '--device cuda: engine cpu cannot use a GPU; use --engine tensorflow or onnx',
        )
      const { cpuEngine } = await import('./eager-engine.ts')
      return cpuEngine()
    }
    default:
      throw new InputError('usage', `--engine: expected onnx, tensorflow or cpu, got "${name}"`)
  }
}
