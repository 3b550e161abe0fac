extension ScheduleLoad {
    /// What a guest wrote in a run of the past, and what that cost there, from the run's `epoch_log`. Where a line is damaged
    /// there is no load.
    ///
    /// - Parameter outputInterval: seconds between two packets, which the log does not tell.
    public init?(epochLog: String, outputInterval: Double?) {
        let lines = epochLog.split(separator: "\n")
        guard let names = lines.first?.split(separator: ",").map(String.init) else { return nil }
        var epochs: [[String: Double]] = []
        for line in lines.dropFirst() {
            let values = line.split(separator: ",").compactMap { Double($0) }
            guard values.count == names.count else { return nil }
            epochs.append(Dictionary(uniqueKeysWithValues: zip(names, values)))
        }
        // The first epoch is the whole guest, and the second what it wrote meanwhile.
        let known = epochs.dropFirst(2)
        func column(_ name: String) -> [Double] { known.compactMap { $0[name] } }
        let (requested, pause, pages) = (column("requested_us"), column("pause_us"), column("pages"))
        let (bytes, acknowledged) = (column("link_bytes"), column("acknowledged_us"))
        guard requested.count > 3, [pause, pages, bytes, acknowledged].allSatisfy({ $0.count == requested.count })
        else {
            return nil
        }

        let begin = requested[0]
        let ends = requested.dropFirst().map { ($0 - begin) / 1e6 }
        let rates = requested.indices.dropFirst().map { index in
            pages[index] / max(0.001, (requested[index] - requested[index - 1] - pause[index - 1]) / 1e6)
        }
        self.init { second in
            let place = ends.firstIndex { second < $0 } ?? ends.count - 1
            return Work(pagesPerSecond: rates[place], outputInterval: outputInterval)
        }
        workingSetPages = max(pages.max() ?? 0, 1) * 1.5
        (fixedPause, pausePerPage) = Self.line(pages, pause.map { $0 / 1e6 })
        bytesPerPage = bytes.reduce(0, +) / max(1, pages.reduce(0, +))
        (fixedAcknowledge, acknowledgePerByte) = Self.line(bytes, acknowledged.map { $0 / 1e6 })
    }

    /// The least squares' line; one that falls is level.
    private static func line(_ x: [Double], _ y: [Double]) -> (at0: Double, slope: Double) {
        let count = Double(x.count)
        let (meanX, meanY) = (x.reduce(0, +) / count, y.reduce(0, +) / count)
        let spread = x.reduce(0) { $0 + ($1 - meanX) * ($1 - meanX) }
        let together = zip(x, y).reduce(0) { $0 + ($1.0 - meanX) * ($1.1 - meanY) }
        let slope = spread > 0 ? max(0, together / spread) : 0
        return (max(0, meanY - slope * meanX), slope)
    }
}
