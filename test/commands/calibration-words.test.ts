import { expect, it } from 'vitest'
import { calibrationWords } from '../../src/commands/calibration-words.ts'

it('a calibration is told in one sentence: what was done, with which router, and what it changed', () => {
  const calibration = {
    bias: -1.5,
    router: 'rows' as const,
    uncalibrated: { own: { before: 2, after: 1.362 }, public: { before: 1.483, after: 1.504 } },
    calibrated: { own: { before: 2, after: 1.376 }, public: { before: 1.483, after: 1.489 } },
  }
  expect(calibrationWords(calibration)).toBe(
    'released with bias -1.5 to spare public text: bits per byte by router rows on public text +0.4 % instead of +1.4 %, on own text -31.2 % instead of -31.9 %',
  )
  const { own: _, ...publicAlone } = calibration.calibrated
  expect(calibrationWords({ ...calibration, router: 'solved', calibrated: publicAlone })).toBe(
    'released with bias -1.5 to spare public text: bits per byte with a gate on public text +0.4 % instead of +1.4 %',
  )
})
