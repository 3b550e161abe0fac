import RomulusSimulation
import Testing

/// Proof that the checks can fail: each mistake, built in, is caught.
@Suite struct SabotageTests {
    @Test(arguments: Sabotage.allCases) func everySabotageIsCaught(sabotage: Sabotage) {
        for seed in UInt64(0)..<5000 {
            let scenario =
                sabotage == .forgetWhatComesWhileFrozen
                ? Scenario.whileFrozen(.helperKilled, seed: seed, sabotage: sabotage)
                : .random(seed: seed, sabotage: sabotage)
            let verdict = World.run(scenario)
            if let violation = verdict.violations.first {
                print("simulation: \(sabotage) caught by seed \(seed): \(violation)")
                return
            }
        }
        Issue.record("\(sabotage) is not caught")
    }
}
