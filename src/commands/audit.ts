/** The command `audit`: attacks a trained expert as others could, before it is published. */
import type { AuditProgress } from '../owner/audit-training.ts'
import { type KeptReport, reportLines } from '../privacy/audit-report.ts'
import { nodeCommand } from './command.ts'
import { trainingName } from './common-parameters.ts'
import { auditLine } from './publish-progress.ts'
import { type Timed, withTimeLeft } from './time-left.ts'

export const AUDIT = nodeCommand({
  name: 'audit',
  usage: 'audit NAME',
  parameters: { name: trainingName('audit') },
  async *run(node, request, signal): AsyncGenerator<Timed<AuditProgress>, KeptReport, void> {
    return yield* withTimeLeft(node.trainings.audit(request, signal))
  },
  progress: (event) => ({ text: auditLine(event), stays: false }),
  words: ({ report, digest }) => [...reportLines(report), `report ${digest}`],
})
