/**
 * The jobs of a node: computations that take seconds to hours. Each loads its code when it first runs, so that a thread
 * that only dispatches jobs loads no tensor library.
 */

import type { Judged } from '../acceptance/accept.ts'
import type { Judging } from '../acceptance/package-states.ts'
import type { JobHandlers, JobRunner } from '../lib/jobs.ts'
import { reporting } from '../lib/reporting.ts'
import type { AuditProgress } from '../owner/audit-training.ts'
import { OWNER_JOBS, type OwnerJobs } from '../owner/owner-jobs.ts'
import type { AttackRequest, AttackResult } from './attack-expert.ts'
import type { JudgeRequest } from './judge-package.ts'
import type { ScoredText, ScoreRequest, TextProgress } from './score-texts.ts'
import type { Workplace } from './workplace.ts'

export type NodeJobs = OwnerJobs & {
  readonly judge: {
    readonly request: JudgeRequest
    readonly progress: Judging
    readonly result: Judged
  }
  readonly score: {
    readonly request: ScoreRequest
    readonly progress: TextProgress
    readonly result: ScoredText[]
  }
  /** Attack an expert of another member with text of this node. */
  readonly attack: {
    readonly request: AttackRequest
    readonly progress: AuditProgress
    readonly result: AttackResult
  }
}

export type NodeJobRunner = JobRunner<NodeJobs>

export const NODE_JOBS: JobHandlers<NodeJobs, Workplace> = {
  ...OWNER_JOBS,
  async *judge(workplace, request, signal): AsyncGenerator<Judging, Judged, void> {
    const { judgePackage } = await import('./judge-package.ts')
    return yield* reporting((report) => judgePackage(workplace, request, signal, report))
  },
  async *score(workplace, request, signal): AsyncGenerator<TextProgress, ScoredText[], void> {
    const { scoreTexts } = await import('./score-texts.ts')
    return yield* scoreTexts(workplace, request, signal)
  },
  async *attack(workplace, request, signal): AsyncGenerator<AuditProgress, AttackResult, void> {
    const { attackExpert } = await import('./attack-expert.ts')
    return yield* attackExpert(workplace, request, signal)
  },
}
