/**
 * Long computations as data: a job has a name, a request of plain values, progress and a result, so that it can run in
 * the calling thread or in another one. Knows nothing about any job.
 */

/** Request, progress and result of each job, by the name of the job. Values that can be cloned to another thread. */
export type JobTypes = {
  readonly [name: string]: { readonly request: unknown; readonly progress: unknown; readonly result: unknown }
}

/** What carries out each job. `W` holds what all jobs work with, such as the engine. */
export type JobHandlers<J extends JobTypes, W> = {
  readonly [N in keyof J]: (
    workplace: W,
    request: J[N]['request'],
    signal: AbortSignal,
  ) => AsyncGenerator<J[N]['progress'], J[N]['result'], void>
}

export interface JobRunner<J extends JobTypes> {
  /**
   * Run a job. Ending the iteration early aborts the job and waits until it has stopped.
   * @throws what the job throws; the reason of `signal`.
   */
  run<N extends keyof J & string>(
    name: N,
    request: J[N]['request'],
    signal: AbortSignal,
  ): AsyncGenerator<J[N]['progress'], J[N]['result'], void>
}

/** Runs jobs in the calling thread. The job pauses at each progress event until the caller asks for the next one. */
export function inlineJobs<J extends JobTypes, W>(handlers: JobHandlers<J, W>, workplace: W): JobRunner<J> {
  return { run: (name, request, signal) => handlers[name](workplace, request, signal) }
}

/** The result of a job. */
export async function resultOf<P, R>(
  job: AsyncGenerator<P, R, void>,
  onProgress: (progress: P) => void = () => undefined,
): Promise<R> {
  for (;;) {
    const { done, value } = await job.next()
    if (done === true) return value
    onProgress(value)
  }
}
