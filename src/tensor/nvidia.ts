/** Lists the NVIDIA GPUs of this machine as the driver reports them. Does not know engines. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Milliseconds. `nvidia-smi` answers in a tenth of a second, unless a GPU hangs. */
const TIMEOUT_MS = 5_000
const QUERY = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader,nounits']

export interface Gpu {
  readonly name: string
  readonly memoryMiB: number
  readonly driver: string
}

/**
 * Makes NVIDIA's libraries multiply in full single precision. By default they may use TF32, which rounds factors to 10
 * bits, and then engines would no longer agree. Must be called before the libraries are loaded. Does not override a
 * value that the user has set, so the user can choose speed instead.
 */
export function disableTf32(): void {
  process.env['NVIDIA_TF32_OVERRIDE'] ??= '0'
}

/** All GPUs; empty if there is no driver or it does not answer in time. @throws the signal's reason when aborted. */
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

/** Parses lines such as `NVIDIA H100 80GB HBM3, 81559, 550.54.15` and skips others. */
export function parseGpus(csv: string): Gpu[] {
  return csv.split('\n').flatMap((line) => {
    const [name = '', memory, driver = ''] = line.split(',').map((field) => field.trim())
    const memoryMiB = Number(memory)
    return name !== '' && Number.isSafeInteger(memoryMiB) && memoryMiB > 0
      ? [{ name, memoryMiB, driver }]
      : []
  })
}
