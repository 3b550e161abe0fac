import RomulusSimulation
import Testing

/// Proof that the checks can fail: each mistake, built in, is caught.
@Suite struct SabotageTests {
    @Test(arguments: Sabotage.allCases) func everySabotageIsCaught(sabotage: Sabotage) {
        for seed in UInt64(0)..<5000 {
            let verdict = World.run(.random(seed: seed, sabotage: sabotage))
            if let violation = verdict.violations.first {
                print("simulation: \(sabotage) caught by seed \(seed): \(violation)")
                return
            }
        }
        Issue.record("\(sabotage) is not caught")
    }
}
