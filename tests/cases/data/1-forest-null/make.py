import random

r = random.Random(1)
with open("visits.csv", "w") as f:
    f.write("visit,age,spend,distance,returned\n")
    for i in range(600):
        age, spend, dist = (
            (r.randint(18, 39) if r.random() < 0.7 else r.randint(40, 80)),
            round(r.uniform(1, 200), 2),
            round(r.uniform(0, 40), 1),
        )
        p = 0.05 + 0.85 * (age < 40) + 0.05 * (spend > 120)
        f.write(f"V{i:04d},{age},{spend},{dist},{int(r.random() < p)}\n")
