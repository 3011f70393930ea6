"""Order rows made up by a seed, in the shape of a shop's export."""
import random

HEADER = "order_id,customer_id,status,approved_at,estimated_delivery,delivered_at"
STATES = ["delivered", "shipped", "invoiced", "canceled", "created"]


def rows(count, seed=1):
    """CSV lines without the header; some with quotes, commas, umlauts, empty fields."""
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        state = dice.choice(STATES)
        when = f"{dice.randrange(1, 29):02}-{dice.randrange(1, 13):02}-2017 " \
               f"{dice.randrange(24):02}:{dice.randrange(60):02}"
        customer = "%032x" % dice.getrandbits(128)
        odd = dice.randrange(50)
        if odd == 0:
            customer = '"Müller, ""Söhne"" & Co"'
        elif odd == 1:
            customer = ""
        made.append(f"{'%032x' % dice.getrandbits(128)},{customer},{state},{when},"
                    f"{when},{when if state == 'delivered' else ''}")
    return made


def csv(lines):
    return ("\n".join([HEADER] + lines) + "\n").encode()


def order_id(line):
    return line.split(",", 1)[0]
