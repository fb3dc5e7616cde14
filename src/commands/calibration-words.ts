/** Words for what calibration changed in the release of an expert. Knows nothing about how it is computed. */
import type { Calibration, Score } from '../owner/training-folder.ts'

/** A sentence without a full stop. */
export function calibrationWords({ bias, router, uncalibrated, calibrated }: Calibration): string {
  const texts = (['public', 'own'] as const).flatMap((text) => {
    const [was, is] = [uncalibrated[text], calibrated[text]]
    return was && is ? [`${text} text ${change(is)} instead of ${change(was)}`] : []
  })
  const how = router === 'rows' ? 'by router rows' : 'with a gate'
  return `released with bias ${bias} to spare public text: bits per byte ${how} on ${texts.join(', on ')}`
}

function change({ before, after }: Score): string {
  const percent = 100 * (after / before - 1)
  return `${percent < 0 ? '' : '+'}${percent.toFixed(1)} %`
}
