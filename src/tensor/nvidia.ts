/** The NVIDIA GPUs of this machine, as their driver names them. Knows no engine. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** The driver's tool answers in a tenth of a second; a GPU that hangs must not hold us up, ms. */
const TIMEOUT_MS = 5_000
const QUERY = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader,nounits']

export interface Gpu {
  readonly name: string
  readonly memoryMiB: number
  readonly driver: string
}

/**
 * Multiply in whole single precision: by default NVIDIA's libraries round factors to 10 bits (TF32), and
 * engines would no longer agree. Read when they are loaded; who sets it otherwise gets the speed.
 */
export function disableTf32(): void {
  process.env['NVIDIA_TF32_OVERRIDE'] ??= '0'
}

/** None where there is no driver, or it does not answer. */
export async function nvidiaGpus(signal?: AbortSignal): Promise<Gpu[]> {
  const options = { timeout: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) }
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', QUERY, options)
    return parseGpus(stdout)
  } catch {
    signal?.throwIfAborted()
    return []
  }
}

/** Lines such as `NVIDIA H100 80GB HBM3, 81559, 550.54.15`; others are passed over. */
export function parseGpus(csv: string): Gpu[] {
  return csv.split('\n').flatMap((line) => {
    const [name = '', memory, driver = ''] = line.split(',').map((field) => field.trim())
    const memoryMiB = Number(memory)
    return name !== '' && Number.isSafeInteger(memoryMiB) && memoryMiB > 0
      ? [{ name, memoryMiB, driver }]
      : []
  })
}
