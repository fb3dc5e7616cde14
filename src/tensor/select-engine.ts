/** The tensor engine by name. */
import { InputError } from '../lib/errors.ts'
import { cpuEngine, tensorflowEngine } from './eager-engine.ts'
import type { Engine } from './engine.ts'
import { onnxEngine } from './onnx-engine.ts'

/** @throws InputError `usage` for an unknown name, `engine-missing`. */
export async function selectEngine(name = 'onnx', threads?: number): Promise<Engine> {
  switch (name) {
    case 'onnx':
      return onnxEngine(threads === undefined || threads === 0 ? {} : { threads })
    case 'tensorflow':
      return tensorflowEngine()
    case 'cpu':
      return cpuEngine()
    default:
      throw new InputError('usage', `--engine: expected onnx, tensorflow or cpu, got "${name}"`)
  }
}
