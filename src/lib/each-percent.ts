/** Thins out progress, so that a file read in thousands of pieces does not cause thousands of messages. */

/**
 * A function that passes on only the first progress of each stage and each whole percentage of it.
 * @param report receives progress with `done` and `total`, or without them for a stage that does not count
 * @param stageOf names the stage of a progress
 */
export function eachPercent<P extends object>(
  report: (progress: P) => void,
  stageOf: (progress: P) => string,
): (progress: P) => void {
  let last = ''
  return (progress) => {
    const { done, total } = progress as { readonly done?: number; readonly total?: number }
    const percent = done === undefined || !total ? '' : Math.floor((100 * done) / total)
    const now = `${stageOf(progress)} ${percent}`
    if (now === last) return
    last = now
    report(progress)
  }
}
