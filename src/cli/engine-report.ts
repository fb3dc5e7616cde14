/** The tensor engines of this machine: those present with their speed, those absent with what to do about it. */
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { FlexMeshError } from '../lib/errors.ts'
import type { Device, EngineName } from '../tensor/engine.ts'
import { measureGflops } from '../tensor/measure.ts'
import { type Gpu, nvidiaGpus } from '../tensor/nvidia.ts'
import { type EngineChoice, selectEngine } from '../tensor/select-engine.ts'

const GIB = 2 ** 30
const MIB_PER_GIB = 1024

/**
 * One engine on one device. A present one has `library` and `gflops`; an absent one has `reason`, and `next` if a
 * command helps.
 */
interface Finding {
  readonly name: EngineName
  readonly device: Device
  readonly present: boolean
  readonly library?: string
  /** Speed of float32 matrix products measured now, 10^9 operations per second. */
  readonly gflops?: number
  readonly reason?: string
  readonly next?: string
}

interface Machine {
  readonly node: string
  readonly cores: number
  readonly cpu: string
  readonly memoryGiB: number
  readonly freeGiB: number
  readonly gpus: readonly Gpu[]
}

export interface EngineReport {
  readonly machine: Machine
  readonly engines: readonly Finding[]
}

/**
 * Tries every engine on every device it may have here, and measures those that are present.
 * @param threads as of `EngineChoice`
 * @throws the reason of `signal`.
 */
export async function findEngines(
  threads: number | undefined,
  signal: AbortSignal,
  onProgress: (line: string) => void,
): Promise<EngineReport> {
  const gpus = await nvidiaGpus(signal)
  const engines: Finding[] = []
  const look = async (name: EngineName, device: Device, choice: EngineChoice): Promise<void> => {
    signal.throwIfAborted()
    onProgress(`measuring ${name} on ${device}`)
    engines.push(await find(name, device, { ...choice, ...(threads === undefined ? {} : { threads }) }))
  }
  await look('onnx', 'cpu', { name: 'onnx', device: 'cpu' })
  await look('onnx', 'cuda', { name: 'onnx', device: 'cuda' })
  // The library of TensorFlow keeps the first device for the life of the process, so it chooses by itself first.
  await look('tensorflow', gpus.length > 0 ? 'cuda' : 'cpu', { name: 'tensorflow' })
  if (engines.at(-1)?.device === 'cpu')
    await look('tensorflow', 'cuda', { name: 'tensorflow', device: 'cuda' })
  await look('cpu', 'cpu', { name: 'cpu' })
  const machine = {
    node: process.version,
    cores: availableParallelism(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / GIB),
    freeGiB: Math.round(freemem() / GIB),
    gpus,
  }
  return { machine, engines }
}

export function reportLines({ machine, engines }: EngineReport): string[] {
  const { node, cores, cpu, memoryGiB, freeGiB, gpus } = machine
  return [
    `Node ${node}, ${cores} cores, ${memoryGiB} GiB memory (${freeGiB} free)`,
    `CPU  ${cpu}`,
    ...(gpus.length === 0 ? ['GPU  no NVIDIA driver answers on this machine'] : gpus.map(describeGpu)),
    '',
    ...engineTable(engines),
    ...engines.filter(({ present }) => !present).flatMap(advice),
  ]
}

async function find(name: EngineName, device: Device, choice: EngineChoice): Promise<Finding> {
  try {
    const engine = await selectEngine(choice)
    const gflops = Math.round(10 * (await measureGflops(engine))) / 10
    return { name, device: engine.device, present: true, library: engine.library, gflops }
  } catch (error) {
    if (!(error instanceof FlexMeshError)) throw error
    const { reason, next } = error.fields
    return {
      name,
      device,
      present: false,
      reason: typeof reason === 'string' ? reason : error.message,
      ...(typeof next === 'string' ? { next } : {}),
    }
  }
}

function describeGpu({ name, memoryMiB, driver }: Gpu): string {
  return `GPU  ${name}, ${Math.round(memoryMiB / MIB_PER_GIB)} GiB, driver ${driver}`
}

function engineTable(engines: readonly Finding[]): string[] {
  const row = (name: string, device: string, gflops: string, library: string): string =>
    `${name.padEnd(10)}  ${device.padEnd(6)}  ${gflops.padStart(7)}  ${library}`.trimEnd()
  return [
    row('engine', 'device', 'GFLOP/s', 'library'),
    ...engines.map(({ name, device, gflops, library }) =>
      row(name, device, gflops === undefined ? 'absent' : gflops.toFixed(gflops < 10 ? 1 : 0), library ?? ''),
    ),
  ]
}

/** The next command is on a line of its own, to be copied. */
function advice({ name, device, reason, next }: Finding): string[] {
  const why = ['', `${name} on ${device} is absent:`, `  ${reason}`]
  return next === undefined ? why : [...why, 'next:', `  ${next}`]
}
