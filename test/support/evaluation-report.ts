/** A report of the command `evaluate` with invented numbers. */
import type { Bits, DomainReport, EvaluationReport } from '../../src/commands/evaluation-report.ts'

export function domain(name: string, bitsPerByte: Bits, layerShares: number[][]): DomainReport {
  const loadShares = layerShares[0] as number[]
  return { name, documents: 3, tokens: 9000, bytes: 27_300, cut: false, bitsPerByte, loadShares, layerShares }
}

/** Two experts, two layers: the first expert is best on law, the composition on medicine. */
export function report(change: Partial<EvaluationReport> = {}): EvaluationReport {
  const law = { public: 3, composed: 2.1, alone: [2, 2.9], without: [2.8, 2.00049] }
  const medicine = { public: 2.5, composed: 1.5, alone: [2.4, 1.6], without: [1.7, 2.3] }
  const macro = { public: 2.75, composed: 1.8, alone: [2.2, 2.25], without: [2.25, 2.15] }
  return {
    public: 2.75,
    composed: 1.8,
    alone: {},
    loadShares: [0.5, 0.3, 0.2],
    router: 'rows',
    topK: 2,
    experts: [
      { id: 'sha256:aa', name: 'law', institution: 'Archive' },
      { id: 'sha256:bb', name: 'bio', institution: 'St. Anna Hospital' },
    ],
    domains: [
      domain('French law', law, [
        [0.25, 0.75, 0],
        [0.1, 0.85, 0.05],
      ]),
      domain('医学', medicine, [
        [0.4, 0.1, 0.5],
        [0.2, 0.1, 0.7],
      ]),
    ],
    macro,
    ...change,
  }
}
